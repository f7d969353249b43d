//! Where the collector may be killed: at any instruction, and in tests at these.

use std::sync::atomic::{Ordering, compiler_fence};

/// What stands before it in the code has been done by a collector that dies behind it: the compiler moves no access to
/// memory across. Costs nothing.
#[inline]
#[cfg_attr(not(test), allow(unused_variables))] // only tests look at them
pub(super) fn point(name: &'static str, number: usize) {
    compiler_fence(Ordering::SeqCst);
    #[cfg(test)]
    test::reached(name, number);
}

#[cfg(test)]
pub(super) mod test {
    use std::cell::RefCell;

    type Hook = Box<dyn FnMut(&'static str, usize)>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    pub(super) fn reached(name: &'static str, number: usize) {
        HOOK.with_borrow_mut(|hook| {
            if let Some(hook) = hook {
                hook(name, number);
            }
        });
    }

    /// Has `hook` called at each point that this thread reaches.
    pub(in crate::receive) fn at_each_point(hook: impl FnMut(&'static str, usize) + 'static) {
        HOOK.set(Some(Box::new(hook)));
    }
}
