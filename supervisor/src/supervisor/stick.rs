//! A configuration from a USB stick: taken by itself by a box that nobody has set up yet, offered by every other one.

use super::Supervisor;
use raven_model::report::StickStatus;

/// By whom a configuration of the history was, that came by itself.
const BY: &str = "stick";

impl Supervisor {
    /// Looks whether a stick has come.
    pub(super) fn tend_stick(&mut self) {
        self.stick.as_mut().map(crate::stick::Stick::is_giving);
        // Not before every process runs: what they bind and keep is the old configuration's until then.
        if !self.announced || !self.stick.as_mut().is_some_and(crate::stick::Stick::has_come) {
            return;
        }
        if self.config.is_set_up() || self.logins.has_admin() {
            tracing::info!("a USB stick has a configuration; this box is set up, so it waits to be taken");
            self.tell_of_stick(
                "a configuration is on it: take it from the menu, or by `raven config take-stick`",
                true,
            );
            return;
        }
        match self.take_stick(BY, None) {
            Ok(changes) => {
                tracing::warn!("the configuration of a USB stick is in force: {}", changes.join("; "));
                self.tell_of_stick("its configuration is in force", false);
            }
            Err(errors) => {
                tracing::error!("the configuration of a USB stick is not taken: {}", errors.join("; "));
                self.tell_of_stick(&format!("its configuration is NOT taken: {}", errors.join("; ")), false);
            }
        }
    }

    /// Puts what the stick brought into force, whole or not at all.
    pub(super) fn take_stick(&mut self, by: &str, confirm: Option<u64>) -> Result<Vec<String>, Vec<String>> {
        let whole = |error: anyhow::Error| vec![format!("{error:#}"), "nothing was changed".to_owned()];
        let Some(stick) = &self.stick else { return Err(vec!["this is no box that looks at sticks".to_owned()]) };
        let text = stick.text().map_err(whole)?;
        let placed = stick.place_secrets(&self.args.config).map_err(whole)?;
        let changed = self.put(&text, by, confirm);
        if changed.is_err() {
            placed.take_back();
        }
        changed
    }

    fn tell_of_stick(&mut self, said: &str, is_offered: bool) {
        if let Some(stick) = &mut self.stick {
            stick.status = Some(StickStatus { said: said.to_owned(), is_offered });
        }
    }

    /// Somebody asks for what the stick offers.
    pub(super) fn take_offered(&mut self, by: &str, confirm: Option<u64>) -> Result<Vec<String>, Vec<String>> {
        if self.stick.as_ref().and_then(|stick| stick.status.as_ref()).is_none() {
            return Err(vec!["no stick with a raven.toml was seen".to_owned()]);
        }
        let changes = self.take_stick(by, confirm)?;
        self.tell_of_stick("its configuration was taken", false);
        Ok(changes)
    }
}
