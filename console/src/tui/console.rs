//! The console as a state machine: the front page that everybody may see, the tabs behind the login, and dialogs that
//! change things. It knows no terminal; what it does to the box goes through [`Appliance`].

mod dialog;
mod install;

use super::appliance::Appliance;
use super::facts::Facts;
use super::pages::{self, Row, Tab, Tone};
use super::question::{Answer, Question};
use super::testing::around::Around;
use super::testing::form::Form;
use super::testing::{Room, Testing};
use super::wizard::{Surroundings, Wizard};
pub use dialog::{Dialog, Offer};
pub use install::Step as InstallStep;
use std::time::{Duration, Instant};

/// Without a key for so long, whoever was logged in has gone.
pub const IDLE: Duration = Duration::from_mins(10);

/// Where one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Before the login.
    Front,
    /// The page of tests before it: ravend makes them for whose account may.
    Test,
    /// Behind it.
    Tab(Tab),
}

/// The console.
pub struct Console {
    /// Page that is shown.
    pub view: View,
    /// What is being asked, in front of the page.
    pub dialog: Option<Dialog>,
    /// What the last act led to.
    pub notice: Option<Row>,
    /// First row of the page that is shown.
    pub scroll: usize,
    is_set_up: bool,
    is_medium: bool,
    /// The program is to end.
    pub is_over: bool,
    /// Tests of the network.
    pub testing: Testing,
    last: Instant,
}

impl Console {
    /// On the front page.
    pub fn new(appliance: &mut dyn Appliance, now: Instant) -> Self {
        let (view, is_medium) = (View::Front, appliance.is_medium());
        let mut console = Self {
            view,
            dialog: None,
            notice: None,
            scroll: 0,
            is_set_up: true,
            is_medium,
            is_over: false,
            testing: Testing::default(),
            last: now,
        };
        console.look(appliance);
        console
    }

    /// Whether the box was set up, which only an administrator can see; whether one is here.
    fn look(&mut self, appliance: &mut dyn Appliance) -> bool {
        let text = appliance.text();
        self.is_set_up = text.as_ref().map_or(true, |text| super::wizard::answers::is_set_up(text));
        text.is_ok()
    }

    /// What Enter does on the front page.
    pub const fn invitation(&self) -> &'static str {
        match (self.is_set_up, self.is_medium) {
            (false, _) => "Enter: set up this box",
            (true, true) => "Enter: install, or log in",
            (true, false) => "Enter: log in",
        }
    }

    /// The page's rows.
    pub fn rows(&self, facts: &Facts, room: Room) -> Vec<Row> {
        match self.view {
            View::Front => pages::front(facts),
            View::Test | View::Tab(Tab::Test) => self.testing.rows(facts, room),
            View::Tab(tab) => tab.rows(facts),
        }
    }

    /// What is asked, if anything.
    pub fn question(&self, now: Instant) -> Option<Question> {
        self.dialog.as_ref().map(|dialog| dialog.question(now))
    }

    /// Somebody is there.
    pub fn touch(&mut self, now: Instant) {
        self.last = now;
    }

    /// Time goes by: who is idle is logged out, and a question whose time is over goes away.
    pub fn tick(&mut self, appliance: &mut dyn Appliance, now: Instant) {
        self.testing.tick();
        if let Some(Dialog::Keep { until, .. }) = &self.dialog
            && now >= *until
        {
            self.dialog = None;
            self.tell(Tone::Warn, "not confirmed in time: the settings from before are in force again");
            self.look(appliance);
        }
        if let Some(Dialog::Install(InstallStep::Writing(progress))) = &mut self.dialog
            && !progress.finished
            && let Ok(Some(now)) = appliance.installed()
        {
            *progress = now;
            self.last = Instant::now();
        }
        let is_in = self.view != View::Front || self.dialog.is_some();
        if is_in && now.duration_since(self.last) >= IDLE {
            self.log_out(appliance);
            self.tell(Tone::Plain, "logged out after ten minutes without a key");
        }
    }

    /// Enter on the front page.
    pub fn enter(&mut self, facts: &Facts, appliance: &mut dyn Appliance, now: Instant) {
        self.touch(now);
        self.notice = None;
        match self.look(appliance) {
            true if self.is_medium => self.dialog = Some(Dialog::Install(InstallStep::Begin)),
            true if self.is_set_up => self.show(Tab::Status),
            true => self.wizard(facts, appliance),
            false => self.dialog = Some(Dialog::Login { error: None }),
        }
    }

    /// The page of tests is shown.
    pub const fn is_testing(&self) -> bool {
        matches!(self.view, View::Test | View::Tab(Tab::Test))
    }

    /// To the page of tests, without a login.
    pub fn show_tests(&mut self) {
        (self.view, self.scroll, self.notice) = (View::Test, 0, None);
    }

    /// Asks for a new test.
    pub fn choose_test(&mut self, facts: &Facts, appliance: &mut dyn Appliance) {
        // Who may not see the configuration is offered what everybody may see.
        let text = appliance.text().ok();
        self.dialog = Some(Dialog::Test(Box::new(Form::new(Around::new(facts, text.as_deref())))));
    }

    /// The last test again.
    pub fn test_again(&mut self, appliance: &mut dyn Appliance) {
        if let Some(test) = self.testing.last().cloned() {
            self.scroll = 0;
            self.testing.begin(test.clone(), appliance.test(&test));
        }
    }

    /// To a page.
    pub fn show(&mut self, tab: Tab) {
        (self.view, self.scroll) = (View::Tab(tab), 0);
    }

    /// So many pages further, round and round.
    pub fn turn(&mut self, by: usize) {
        if let View::Tab(tab) = self.view {
            let at = Tab::ALL.iter().position(|known| *known == tab).unwrap_or(0);
            self.show(Tab::ALL[(at + by) % Tab::ALL.len()]);
        }
    }

    /// The menu of what can be done.
    pub fn actions(&mut self, facts: &Facts, appliance: &dyn Appliance) {
        self.notice = None;
        let stick = facts.status.as_ref().ok().and_then(|status| status.stick.as_ref());
        let offer = Offer { power: appliance.has_power(), stick: stick.is_some_and(|stick| stick.is_offered) };
        self.dialog = Some(Dialog::Actions(offer));
    }

    /// Back to the front page.
    pub fn log_out(&mut self, appliance: &mut dyn Appliance) {
        appliance.log_out();
        (self.view, self.dialog, self.scroll) = (View::Front, None, 0);
        self.testing.clear();
        self.look(appliance);
    }

    /// Begins the wizard.
    pub fn wizard(&mut self, facts: &Facts, appliance: &mut dyn Appliance) {
        match appliance.text() {
            Ok(text) => {
                let around = Surroundings { links: facts.links.clone(), zones: super::zones(), text };
                self.dialog = Some(Dialog::Wizard(Box::new(Wizard::new(around))));
            }
            Err(failure) => self.fail(&failure),
        }
    }

    fn tell(&mut self, tone: Tone, text: &str) {
        self.notice = Some(Row::of(tone, crate::escape::text(text)));
    }

    fn fail(&mut self, failure: &crate::failure::Failure) {
        self.tell(Tone::Fail, &failure.to_string().replace('\n', "; "));
    }

    /// Takes an answer to [`Console::question`].
    pub fn answer(&mut self, answer: &Answer, facts: &Facts, appliance: &mut dyn Appliance, now: Instant) {
        self.touch(now);
        self.notice = None;
        if let Some(dialog) = self.dialog.take() {
            self.dialog = dialog.answer(answer, &mut dialog::Act { console: self, facts, appliance, now });
        }
    }
}
