//! An event's text for people, without any header: fluentd's parser of descriptions is given this.

use super::WinEvent;

/// Most names of data that are read from a text.
const DATA_MAX: usize = 256;

/// Takes `Name:<tab>value` lines as data; those under a heading get its name too: `Subject.Account Name`.
pub fn read(raw: &[u8]) -> WinEvent {
    let text = String::from_utf8_lossy(raw);
    let mut event = WinEvent { message: Some(text.trim_end().to_owned()), ..WinEvent::default() };
    let mut heading = "";
    for line in text.lines() {
        if line.trim().is_empty() {
            heading = "";
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        let is_indented = name.starts_with(['\t', ' ']);
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || name.len() > 64 || event.data.len() == DATA_MAX {
            continue;
        }
        if !is_indented && value.is_empty() {
            heading = name;
        } else if is_indented && !heading.is_empty() {
            event.data.insert(format!("{heading}.{name}"), value.to_owned());
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_under_a_heading_are_data() {
        let event = read(b"A service was installed.\r\n\r\nSubject:\r\n\tSecurity ID:\t\tSYSTEM\r\n\r\nService:\r\n\tFile Name:\tC:\\x.exe -k\r\n");
        let data: Vec<_> = event.data.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(data, [("Service.File Name", "C:\\x.exe -k"), ("Subject.Security ID", "SYSTEM")]);
    }
}
