//! The wizard's questions in words.

use super::{Answers, Method, Network, Step, UPLINK, UPLINKS, Wizard, answers, check, first_link};
use crate::escape;
use crate::tui::facts::Link;
use crate::tui::question::{Kind, Question};
use raven_model::neighbour::Neighbour;

const BACK: &str = "`<` goes back to the question before.";

impl Wizard {
    /// What is asked now.
    pub fn question(&self) -> Question {
        self.plain_question().with_error(self.error.clone())
    }

    fn plain_question(&self) -> Question {
        let answers = &self.answers;
        match self.at {
            Step::Begin => Question::choice(
                "Set up this box",
                &["Nothing is changed before the last question, and each question has an answer that Enter takes."],
                &["Step by step", "As it is now: to the last question, where each answer can be changed"],
            ),
            Step::Name => {
                let text = [
                    "Letters, digits and `-`: name of this box in the network, and in every record it sends on.",
                    BACK,
                ];
                Question::line("Name", &text, &answers.name)
            }
            Step::Zone => {
                let text = ["Such as `Europe/Berlin`; a part of it will do. Records and logs stay in UTC."];
                Question::line("Time zone", &text, &answers.timezone)
            }
            Step::Link => self.link(),
            Step::Method => self.method(),
            Step::Address4 => self.address(false),
            Step::Address6 => self.address(true),
            Step::Gateway4 => self.gateway(false),
            Step::Gateway6 => self.gateway(true),
            Step::Vlan => {
                let text =
                    ["Number 1 to 4094 when the addresses belong to a tagged VLAN on this interface; else nothing."];
                Question::line("VLAN", &text, &answers.network.vlan.map_or_else(String::new, |id| id.to_string()))
            }
            Step::Dns => {
                let text =
                    ["Name servers: addresses with spaces between. `none` for those that DHCP brings, or no names."];
                Question::line("DNS", &text, &answers.dns.join(" "))
            }
            Step::Ntp => {
                let text =
                    ["Time servers: names or addresses with spaces between. `none` for those of DHCP, or as shipped."];
                Question::line("NTP", &text, &answers.ntp.join(" "))
            }
            Step::Uplink => self.uplink(),
            Step::UplinkTo => {
                let (kind, to) = answers.uplink.clone().unwrap_or(("relp", String::new()));
                let how = UPLINKS.iter().find(|(known, ..)| *known == kind).map_or("host:port", |(.., how)| how);
                Question::line("Uplink: where to", &[&format!("{kind}: {how}")], &to)
            }
            Step::Password => Question::secret(
                "Administrator's password",
                &[
                    "At least 8 characters; it is not shown. Enter alone: none. Then whoever stands at the box may change it, \
                    and nobody can log in from elsewhere by a password.",
                ],
            ),
            Step::Again => {
                Question::secret("Administrator's password again", &["The same once more, because it is not shown."])
            }
            Step::Key => {
                let text = ["To log in from elsewhere: a line such as `ssh-ed25519 AAAA… name`. Enter alone: none."];
                Question::line("SSH key of the administrator", &text, &answers.ssh_key)
            }
            Step::Review => self.review(),
        }
    }

    fn link(&self) -> Question {
        if self.around.links.is_empty() {
            return Question::choice("Interface", &["There is none."], &["Go on without"]);
        }
        let options: Vec<String> = self.around.links.iter().map(link).collect();
        let at = self.around.links.iter().position(|link| link.name == self.answers.link);
        let mut question = Question::choice("Interface", &["Which one is to be set up?"], &[]);
        question.kind = Kind::Choice { options, preferred: at.unwrap_or_else(|| first_link(&self.around.links)) };
        question
    }

    fn method(&self) -> Question {
        let text = format!("How does {} get its addresses?", self.answers.link);
        let options = ["DHCP, IPv4 and IPv6", "DHCP, IPv4 alone", "DHCP, IPv6 alone", "Addresses that I give"];
        let mut question = Question::choice("Addresses", &[&text], &options);
        if let Kind::Choice { preferred, .. } = &mut question.kind {
            *preferred = Method::ALL.iter().position(|method| *method == self.answers.network.method).unwrap_or(0);
        }
        question
    }

    fn address(&self, is_v6: bool) -> Question {
        let (title, example) =
            if is_v6 { ("IPv6 address", "2001:db8::2/64") } else { ("IPv4 address", "192.0.2.7/24") };
        let text = format!("With its prefix, such as `{example}`; `none` for none.");
        Question::line(title, &[&text], self.answers.network.address(is_v6).map_or("", String::as_str))
    }

    fn gateway(&self, is_v6: bool) -> Question {
        let title = if is_v6 { "IPv6 gateway" } else { "IPv4 gateway" };
        let known = self.answers.network.gateways.iter().find(|gateway| gateway.contains(':') == is_v6).cloned();
        let own = self.answers.network.address(is_v6).cloned().unwrap_or_default();
        let preset = known.unwrap_or_else(|| check::usual_gateway(&own));
        Question::line(title, &["Where everything else is reached; `none` for none."], &preset)
    }

    fn uplink(&self) -> Question {
        let known = answers::destinations(&self.around.text);
        let none = match known.as_slice() {
            [] => "None for now: records are kept here".to_owned(),
            known => format!("As it is: {}", known.join(", ")),
        };
        let kinds = UPLINKS.iter().map(|(_, words, _)| (*words).to_owned());
        let text = format!("Where do records go? It is called `{UPLINK}`; keys and certificates can be added later.");
        let mut question = Question::choice("Uplink", &[&text], &[]);
        let chosen = self.answers.uplink.as_ref();
        let at = chosen.and_then(|(kind, _)| UPLINKS.iter().position(|(known, ..)| known == kind));
        question.kind = Kind::Choice {
            options: std::iter::once(none).chain(kinds).collect(),
            preferred: at.map_or(0, |at| at + 1),
        };
        question
    }

    fn review(&self) -> Question {
        let mut options = vec!["Put this into force".to_owned()];
        options.extend(self.items().into_iter().map(|(_, words)| words));
        options.push("Leave, change nothing".to_owned());
        let text = [
            "Enter puts it into force; a number changes an answer. If nobody says within 60 s that it is well, all of it \
             is taken back.",
        ];
        let mut question = Question::choice("All answers", &text, &[]);
        question.kind = Kind::Choice { options, preferred: 0 };
        question
    }

    /// What the review lists, and where each is changed.
    pub(super) fn items(&self) -> Vec<(Step, String)> {
        let answers = &self.answers;
        let or = |list: &[String], none: &str| if list.is_empty() { none.to_owned() } else { list.join(" ") };
        let is_static = answers.network.method == Method::Static;
        let brought = if is_static { "none" } else { "from DHCP" };
        let uplink = answers.uplink.as_ref().map(|(kind, to)| format!("{kind} {to}"));
        let known = answers::destinations(&self.around.text);
        let mut items = vec![
            (Step::Name, format!("Name        {}", answers.name)),
            (Step::Zone, format!("Time zone   {}", answers.timezone)),
        ];
        let link = if answers.link.is_empty() { "none".to_owned() } else { addressed(answers) };
        items.push((Step::Link, format!("Interface   {link}")));
        let password = if answers.password.0.is_empty() { "none: open to whoever stands at it" } else { "(not shown)" };
        let key = if answers.ssh_key.is_empty() { "none" } else { &answers.ssh_key };
        items.extend([
            (
                Step::Vlan,
                format!("VLAN        {}", answers.network.vlan.map_or_else(|| "none".to_owned(), |id| id.to_string())),
            ),
            (Step::Dns, format!("DNS         {}", or(&answers.dns, brought))),
            (Step::Ntp, format!("NTP         {}", or(&answers.ntp, if is_static { "as shipped" } else { brought }))),
            (Step::Uplink, format!("Uplink      {}", uplink.unwrap_or_else(|| or(&known, "none")))),
            (Step::Password, format!("Password    {password}")),
            (Step::Key, format!("SSH key     {}", escape::text(key))),
        ]);
        items
    }
}

fn addressed(answers: &Answers) -> String {
    let Network { method, addresses, gateways, .. } = &answers.network;
    let gateways =
        if gateways.is_empty() { "no gateway".to_owned() } else { format!("gateway {}", gateways.join(" ")) };
    let how = match method {
        Method::Both => "DHCP, IPv4 and IPv6".to_owned(),
        Method::Ipv4 => "DHCP, IPv4".to_owned(),
        Method::Ipv6 => "DHCP, IPv6".to_owned(),
        Method::Static => format!("{}, {gateways}", addresses.join(" ")),
    };
    format!("{}: {how}", answers.link)
}

fn link(link: &Link) -> String {
    let speed = link.speed_mbps.map_or_else(String::new, |mbps| format!(", {mbps} Mbit/s"));
    let cause = link.cause.as_ref().map_or_else(String::new, |cause| format!(" ({})", escape::text(cause)));
    // Why it is not known stands on the page about the network.
    let neighbour = match &link.neighbour {
        heard @ Neighbour::Heard(_) => {
            heard.words().map_or_else(String::new, |who| format!(", at {}", escape::text(&who)))
        }
        Neighbour::Nobody | Neighbour::Unknown(_) => String::new(),
    };
    format!("{}  {}{cause}{speed}, {}{neighbour}", link.name, link.state, link.mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::neighbour::Heard;

    #[test]
    fn the_switch_is_told_in_the_list_and_not_why_it_is_unknown() {
        let with = |neighbour| link(&Link { name: "eth0".into(), state: "up".into(), neighbour, ..Link::default() });
        let switch = Heard { system: Some("sw-1".into()), port: Some("7\u{1b}".into()), ..Heard::default() };
        assert_eq!(with(Neighbour::Heard(switch)), "eth0  up, , at sw-1 7\\x1b");
        assert_eq!(with(Neighbour::Unknown("why".into())), with(Neighbour::Nobody));
    }
}
