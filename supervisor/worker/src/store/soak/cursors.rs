//! The cursors on disk, which may not be saved now and then.

use super::far::Outside;
use super::model::Route;
use raven_model::stream::Stream;
use raven_uplink::cursors::DiskCursors;
use raven_uplink::fleet::{CursorStore, Route as Name, Saved};
use raven_uplink::standing::Paused;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The cursors on disk, and what was last written to them.
#[derive(Clone)]
pub struct Cursors {
    pub disk: Rc<RefCell<DiskCursors>>,
    pub outside: Rc<Outside>,
    pub written: Rc<RefCell<BTreeMap<Route, Saved>>>,
    pub fail: Rc<Cell<bool>>,
}

/// As the model names it.
pub fn route((name, stream): &Name) -> Route {
    (name.clone(), Stream::named(stream).expect("a stream"))
}

impl CursorStore for Cursors {
    fn load(&mut self, name: &Name) -> Option<Saved> {
        self.disk.borrow_mut().load(name)
    }
    fn save(&mut self, cursors: &[(Name, Saved)]) -> Result<(), String> {
        if self.fail.get() {
            return Err("no room".to_owned());
        }
        self.disk.borrow_mut().save(cursors)?;
        for (name, saved) in cursors {
            self.outside.model.borrow_mut().saved(&route(name));
            self.written.borrow_mut().insert(route(name), saved.clone());
        }
        Ok(())
    }
    fn load_paused(&mut self, name: &str) -> Paused {
        self.disk.borrow_mut().load_paused(name)
    }
    fn save_paused(&mut self, name: &str, paused: Paused) -> Result<(), String> {
        self.disk.borrow_mut().save_paused(name, paused)
    }
}
