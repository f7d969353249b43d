//! What the wizard has been told, and the configuration that comes of it. The text is edited, not written anew:
//! comments and keys that the wizard knows nothing of stay.

use std::fmt;
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, value};

/// How an interface gets its addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Method {
    /// DHCP for IPv4 and IPv6.
    #[default]
    Both,
    /// DHCP for IPv4 alone.
    Ipv4,
    /// For IPv6 alone.
    Ipv6,
    /// Addresses that are given.
    Static,
}

impl Method {
    /// All of them, as they are offered.
    pub const ALL: [Self; 4] = [Self::Both, Self::Ipv4, Self::Ipv6, Self::Static];

    /// In `network.link.NAME.dhcp`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Static => "none",
        }
    }
}

/// How an interface is addressed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// How it gets its addresses.
    pub method: Method,
    /// IPv4 and IPv6 with prefix, of a static interface.
    pub addresses: Vec<String>,
    /// Its default routes.
    pub gateways: Vec<String>,
    /// VLAN that the addresses belong to.
    pub vlan: Option<u16>,
}

/// A password or nothing; never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "no secret" } else { "a secret" })
    }
}

/// Everything that was answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    /// Of the box: `site.name`, which is its host name too.
    pub name: String,
    /// `Europe/Berlin`.
    pub timezone: String,
    /// `eth0`; empty when there is none.
    pub link: String,
    /// What is to be said of it.
    pub network: Network,
    /// Name servers; none when DHCP brings them.
    pub dns: Vec<String>,
    /// Time servers; none when DHCP brings them or the shipped ones are good.
    pub ntp: Vec<String>,
    /// A new destination: its kind and where.
    pub uplink: Option<(&'static str, String)>,
    /// Of the administrator; empty for none.
    pub password: Secret,
    /// A public key for SSH as administrator; empty for none.
    pub ssh_key: String,
}

/// Name of the destination that the wizard makes.
pub const UPLINK: &str = "noc";

impl Answers {
    /// The configuration with what was answered.
    ///
    /// # Errors
    /// The text is no TOML, or has something else where a table belongs.
    pub fn apply(&self, text: &str) -> Result<String, String> {
        let mut document: DocumentMut =
            text.parse().map_err(|error| format!("the configuration file cannot be read: {error}"))?;
        if !document.contains_key("schema") {
            document.insert("schema", value(1));
        }
        set(table(&mut document, &["site"])?, "name", value(&self.name));
        let system = table(&mut document, &["system"])?;
        set(system, "timezone", value(&self.timezone));
        list(system, "ntp", &self.ntp);
        if !self.dns.is_empty() || document.contains_key("network") {
            list(table(&mut document, &["network"])?, "dns", &self.dns);
        }
        // What the wizard cannot say (DHCP beside addresses, …) stays unless something else was answered.
        if !self.link.is_empty() && Network::of(&document, &self.link).as_ref() != Some(&self.network) {
            self.network.write(&self.link, &mut document)?;
        }
        if let Some((kind, to)) = &self.uplink {
            let uplink = table(&mut document, &["uplink", UPLINK])?;
            set(uplink, "kind", value(*kind));
            set(uplink, "to", value(to));
        }
        if !self.ssh_key.is_empty() {
            self.key(table(&mut document, &["access", "admin"])?);
        }
        Ok(document.to_string())
    }

    /// Adds the key to those that there are.
    fn key(&self, admin: &mut dyn TableLike) {
        let mut keys = admin.get("ssh_keys").and_then(Item::as_array).cloned().unwrap_or_default();
        if !keys.iter().any(|key| key.as_str() == Some(&self.ssh_key)) {
            keys.push(self.ssh_key.as_str());
        }
        set(admin, "ssh_keys", value(keys));
    }
}

impl Network {
    /// What the configuration says of an interface, or of the VLAN on it; `None` when it does not name it.
    pub fn of(document: &DocumentMut, link: &str) -> Option<Self> {
        let own = at(document, &["network", "link", link])?.as_table_like()?;
        let vlan = vlan_on(document, link);
        let table = vlan.as_ref().and_then(|(name, _)| at(document, &["network", "link", name])?.as_table_like());
        let table = table.unwrap_or(own);
        let addresses = words(table.get("addresses"));
        let method = match table.get("dhcp").and_then(Item::as_str) {
            Some("ipv4") => Method::Ipv4,
            Some("ipv6") => Method::Ipv6,
            None if addresses.is_empty() => Method::Both,
            Some("both") => Method::Both,
            _ => Method::Static,
        };
        Some(Self { method, addresses, gateways: words(table.get("gateways")), vlan: vlan.map(|(_, id)| id) })
    }

    fn write(&self, link: &str, document: &mut DocumentMut) -> Result<(), String> {
        if let Some((old, id)) = vlan_on(document, link)
            && Some(id) != self.vlan
        {
            table(document, &["network", "link"])?.remove(&old);
        }
        let Some(id) = self.vlan else {
            self.addressing(table(document, &["network", "link", link])?);
            return Ok(());
        };
        let below = table(document, &["network", "link", link])?;
        set(below, "dhcp", value("none"));
        list(below, "addresses", &[]);
        list(below, "gateways", &[]);
        let name = vlan_on(document, link).map_or_else(|| format!("vlan{id}"), |(name, _)| name);
        let vlan = table(document, &["network", "link", &name])?;
        set(vlan, "vlan", value(i64::from(id)));
        set(vlan, "parent", value(link));
        self.addressing(vlan);
        Ok(())
    }

    fn addressing(&self, table: &mut dyn TableLike) {
        set(table, "dhcp", value(self.method.word()));
        list(table, "addresses", &self.addresses);
        list(table, "gateways", &self.gateways);
    }
}

/// Name and number of the first VLAN on an interface.
fn vlan_on(document: &DocumentMut, link: &str) -> Option<(String, u16)> {
    let links = at(document, &["network", "link"])?.as_table_like()?;
    let vlan = |(name, item): (&str, &Item)| {
        let is_on_it = item.get("parent").and_then(Item::as_str) == Some(link);
        let id = item.get("vlan").and_then(Item::as_integer).and_then(|id| u16::try_from(id).ok())?;
        is_on_it.then(|| (name.to_owned(), id))
    };
    links.iter().find_map(vlan)
}

fn at<'a>(document: &'a DocumentMut, path: &[&str]) -> Option<&'a Item> {
    path.iter().try_fold(document.as_item(), |item, key| item.get(key))
}

fn words(item: Option<&Item>) -> Vec<String> {
    let array = item.and_then(Item::as_array);
    array.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// The table at that path, made where it is missing.
fn table<'a>(document: &'a mut DocumentMut, path: &[&str]) -> Result<&'a mut dyn TableLike, String> {
    let mut at: &mut dyn TableLike = document.as_table_mut();
    for (depth, key) in path.iter().enumerate() {
        // Without a heading of its own where there is nothing but a table inside.
        let made = || {
            let mut table = Table::new();
            table.set_implicit(depth + 1 < path.len());
            Item::Table(table)
        };
        at = at
            .entry(key)
            .or_insert_with(made)
            .as_table_like_mut()
            .ok_or_else(|| format!("`{}` is no table in the configuration file", path.join(".")))?;
    }
    Ok(at)
}

/// Sets a key; a comment behind the old value stays.
fn set(table: &mut dyn TableLike, key: &str, item: Item) {
    let Some(old) = table.get_mut(key) else {
        table.insert(key, item);
        return;
    };
    let decor = old.as_value().map(|old| old.decor().clone());
    *old = item;
    if let (Some(new), Some(decor)) = (old.as_value_mut(), decor) {
        *new.decor_mut() = decor;
    }
}

/// Sets a list, or removes it when it is empty.
fn list(table: &mut dyn TableLike, key: &str, items: &[String]) {
    if items.is_empty() {
        table.remove(key);
        return;
    }
    set(table, key, value(items.iter().map(String::as_str).collect::<Array>()));
}

/// Whether somebody has set the box up: it has a name of its own, or says something of time, network or destinations.
pub fn is_set_up(text: &str) -> bool {
    let Ok(document) = text.parse::<DocumentMut>() else { return true };
    let is_named = at(&document, &["site", "name"]).and_then(Item::as_str).is_some_and(|name| name != "raven");
    is_named || ["system", "network", "uplink"].iter().any(|key| document.contains_key(key))
}

impl Answers {
    /// What the configuration says already, as presets; the interface is not chosen yet.
    pub fn from_text(text: &str) -> Self {
        let document = text.parse::<DocumentMut>().unwrap_or_default();
        let word = |path: &[&str]| at(&document, path).and_then(Item::as_str).map(str::to_owned);
        Self {
            name: word(&["site", "name"]).unwrap_or_default(),
            timezone: word(&["system", "timezone"]).unwrap_or_else(|| "UTC".to_owned()),
            dns: words(at(&document, &["network", "dns"])),
            ntp: words(at(&document, &["system", "ntp"])),
            ..Self::default()
        }
    }
}

impl Answers {
    /// Turns to an interface, with what the configuration says of it.
    pub fn take_link(&mut self, link: &str, text: &str) {
        link.clone_into(&mut self.link);
        let document = text.parse::<DocumentMut>().unwrap_or_default();
        self.network = Network::of(&document, link).unwrap_or_default();
    }
}

/// The destinations that the configuration has.
pub fn destinations(text: &str) -> Vec<String> {
    let document = text.parse::<DocumentMut>().unwrap_or_default();
    let uplink = document.get("uplink").and_then(Item::as_table_like);
    uplink.map(|table| table.iter().map(|(name, _)| name.to_owned()).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::config::Config;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJvzVXJpRDzWSkZMVGrLnZYyJ8iD1rUZtWmJHcUQ4x2T me";

    fn network(vlan: Option<u16>) -> Network {
        Network {
            method: Method::Static,
            addresses: vec!["10.0.0.2/24".into(), "2001:db8::2/64".into()],
            gateways: vec!["10.0.0.1".into()],
            vlan,
        }
    }

    fn answers() -> Answers {
        Answers {
            name: "arena".into(),
            timezone: "Europe/Berlin".into(),
            link: "eth0".into(),
            network: network(None),
            dns: vec!["10.0.0.53".into()],
            uplink: Some(("relp", "noc.example:2514".into())),
            ssh_key: KEY.into(),
            ..Answers::default()
        }
    }

    #[test]
    fn comments_and_other_keys_stay() {
        let text = "# of the venue\nschema = 1\n\n[site]\nname = \"raven\" # change me\n\n[collect.syslog]\nudp = [514, 1514] # two\n";
        let new = answers().apply(text).unwrap();
        for kept in ["# of the venue", "name = \"arena\" # change me", "udp = [514, 1514] # two"] {
            assert!(new.contains(kept), "{kept} is gone:\n{new}");
        }
        for added in [
            "[system]\ntimezone = \"Europe/Berlin\"\n",
            "dns = [\"10.0.0.53\"]",
            "[network.link.eth0]\ndhcp = \"none\"\naddresses = [\"10.0.0.2/24\", \"2001:db8::2/64\"]\ngateways = [\"10.0.0.1\"]\n",
            "[uplink.noc]\nkind = \"relp\"\nto = \"noc.example:2514\"\n",
            &format!("[access.admin]\nssh_keys = [\"{KEY}\"]\n"),
        ] {
            assert!(new.contains(added), "{added} is missing:\n{new}");
        }
        assert_eq!(Config::from_toml(&new, "new").err(), None);
        assert_eq!(answers().apply(&new).unwrap(), new, "the same answers change nothing more");
    }

    #[test]
    fn addresses_of_a_vlan_leave_the_interface_below_without() {
        let answers = Answers { network: network(Some(20)), ..answers() };
        let text = "schema = 1\n[network.link.eth0]\naddresses = [\"192.0.2.7/24\"]\n";
        let new = answers.apply(text).unwrap();
        assert!(new.contains("[network.link.eth0]\ndhcp = \"none\"\n\n"), "{new}");
        assert_eq!(Config::from_toml(&new, "new").err(), None);
        assert!(
            new.contains("[network.link.vlan20]\nvlan = 20\nparent = \"eth0\"\ndhcp = \"none\"\naddresses"),
            "{new}"
        );
    }

    #[test]
    fn what_the_configuration_says_of_an_interface_is_read_back_and_a_vlan_that_is_left_goes() {
        let with = |vlan, text: &str| Answers { network: network(vlan), ..answers() }.apply(text).unwrap();
        let read = |text: &str| Network::of(&text.parse().unwrap(), "eth0");
        let text = with(Some(20), "");
        assert_eq!(read(&text), Some(network(Some(20))));
        let text = with(Some(30), &text);
        assert_eq!(read(&text), Some(network(Some(30))));
        assert!(!text.contains("vlan20"), "{text}");
        let text = with(None, &text);
        assert_eq!(read(&text), Some(network(None)));
        assert!(!text.contains("vlan"), "{text}");
        assert_eq!(read("schema = 1"), None);
    }

    #[test]
    fn what_the_wizard_cannot_say_of_an_interface_stays_when_nothing_else_was_answered() {
        let text = "[network.link.eth0]\ndhcp = \"ipv4\"\naddresses = [\"2001:db8::2/64\"]\nmtu = 9000\n";
        let network = Network::of(&text.parse().unwrap(), "eth0").unwrap();
        assert!(Answers { network, ..answers() }.apply(text).unwrap().contains(text));
        let new = answers().apply(text).unwrap();
        assert!(new.contains("dhcp = \"none\"") && new.contains("mtu = 9000"), "{new}");
    }

    #[test]
    fn what_is_no_table_is_an_error_in_words() {
        assert!(answers().apply("site = 3").unwrap_err().contains("`site` is no table"));
        assert!(answers().apply("site = ").unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn a_box_with_a_name_a_network_or_a_destination_is_set_up() {
        assert!(!is_set_up("schema = 1\n[site]\nname = \"raven\"\n[collect.syslog]\nudp = [514]\n"));
        for text in ["[site]\nname = \"arena\"", "[network]\ndns = []", "[uplink.noc]\nkind = \"relp\"", "=broken"] {
            assert!(is_set_up(text), "{text}");
        }
        assert!(is_set_up(&answers().apply("").unwrap()));
        assert!(is_set_up(include_str!("../../../../docs/venue.toml")));
        assert_eq!(destinations(&answers().apply("").unwrap()), ["noc"]);
    }

    #[test]
    fn no_secret_is_ever_shown_or_written() {
        let answers = Answers { password: Secret("hunter22".into()), ..answers() };
        assert!(!format!("{answers:?}").contains("hunter"));
        assert!(!answers.apply("").unwrap().contains("hunter"));
    }
}
