//! Two events as Windows writes them (4624: somebody logged on; 4688: a process began), with blanks of fixed width.

/// What stands in a blank: in the texts below its letter between `{` and `}`, as often as the blank is wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blank {
    /// Number of the record: decimal digits, the first of them a 1.
    Record,
    /// Number in the mark: decimal digits, zeros before them.
    Number,
    /// Decimal digits.
    Decimal,
    /// Hexadecimal digits.
    Hex,
    /// `2026-11-25T11:36:27.123Z`.
    Time,
}

const JSON_4624: &str = r#"{"EventID":4624,"Version":2,"Level":0,"Task":12544,"Opcode":0,"Keywords":"0x8020000000000000","TimeCreated":"{tttttttttttttttttttttttt}","EventRecordID":{rrrrrrrrrrr},"Channel":"Security","Provider":{"Name":"Microsoft-Windows-Security-Auditing","Guid":"{54849625-5478-4994-A5BA-3E3B0328C30D}"},"Execution":{"ProcessID":788,"ThreadID":4{ddd}},"Computer":"till-{dddd}.venue.example","EventData":{"SubjectUserSid":"S-1-5-18","SubjectUserName":"TILL$","SubjectLogonId":"0x3e7","TargetUserSid":"S-1-5-21-1004336348-1177238915-68200330-{dddd}","TargetUserName":"cashier{ddd}","TargetDomainName":"VENUE","TargetLogonId":"0x{hhhhhhhh}","LogonType":"3","LogonProcessName":"Kerberos","AuthenticationPackageName":"Kerberos","LogonGuid":"{{hhhhhhhh}-{hhhh}-4{hhh}-9{hhh}-{hhhhhhhhhhhh}}","IpAddress":"10.20.1{dd}.1{dd}","IpPort":"5{dddd}","RavenMark":"{m}"}}"#;

const JSON_4688: &str = r#"{"EventID":4688,"Version":2,"Level":0,"Task":13312,"Opcode":0,"Keywords":"0x8020000000000000","TimeCreated":"{tttttttttttttttttttttttt}","EventRecordID":{rrrrrrrrrrr},"Channel":"Security","Provider":{"Name":"Microsoft-Windows-Security-Auditing","Guid":"{54849625-5478-4994-A5BA-3E3B0328C30D}"},"Execution":{"ProcessID":4,"ThreadID":5{ddd}},"Computer":"office-{dddd}.venue.example","EventData":{"SubjectUserSid":"S-1-5-21-1004336348-1177238915-68200330-{dddd}","SubjectUserName":"staff{ddd}","SubjectDomainName":"VENUE","SubjectLogonId":"0x{hhhhhhhh}","NewProcessId":"0x{hhhh}","NewProcessName":"C:\\Windows\\System32\\svchost.exe","TokenElevationType":"%%1936","ProcessId":"0x{hhh}","CommandLine":"svchost.exe -k netsvcs -p -s Schedule -t {hhhhhhhh}","TargetUserSid":"S-1-0-0","ParentProcessName":"C:\\Windows\\System32\\services.exe","MandatoryLabel":"S-1-16-16384","RavenMark":"{m}"}}"#;

const XML_4624: &str = r#"<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event"><System><Provider Name="Microsoft-Windows-Security-Auditing" Guid="{54849625-5478-4994-A5BA-3E3B0328C30D}"/><EventID>4624</EventID><Version>2</Version><Level>0</Level><Task>12544</Task><Opcode>0</Opcode><Keywords>0x8020000000000000</Keywords><TimeCreated SystemTime="{tttttttttttttttttttttttt}"/><EventRecordID>{rrrrrrrrrrr}</EventRecordID><Execution ProcessID="788" ThreadID="4{ddd}"/><Channel>Security</Channel><Computer>till-{dddd}.venue.example</Computer></System><EventData><Data Name="SubjectUserSid">S-1-5-18</Data><Data Name="TargetUserName">cashier{ddd}</Data><Data Name="TargetLogonId">0x{hhhhhhhh}</Data><Data Name="LogonType">3</Data><Data Name="IpAddress">10.20.1{dd}.1{dd}</Data><Data Name="IpPort">5{dddd}</Data><Data Name="RavenMark">{m}</Data></EventData></Event>"#;

const XML_4688: &str = r#"<Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event"><System><Provider Name="Microsoft-Windows-Security-Auditing" Guid="{54849625-5478-4994-A5BA-3E3B0328C30D}"/><EventID>4688</EventID><Version>2</Version><Level>0</Level><Task>13312</Task><Opcode>0</Opcode><Keywords>0x8020000000000000</Keywords><TimeCreated SystemTime="{tttttttttttttttttttttttt}"/><EventRecordID>{rrrrrrrrrrr}</EventRecordID><Execution ProcessID="4" ThreadID="5{ddd}"/><Channel>Security</Channel><Computer>office-{dddd}.venue.example</Computer></System><EventData><Data Name="SubjectUserName">staff{ddd}</Data><Data Name="SubjectLogonId">0x{hhhhhhhh}</Data><Data Name="NewProcessId">0x{hhhh}</Data><Data Name="NewProcessName">C:\Windows\System32\svchost.exe</Data><Data Name="CommandLine">svchost.exe -k netsvcs -t {hhhhhhhh}</Data><Data Name="RavenMark">{m}</Data></EventData></Event>"#;

/// Digits of the number in a mark.
const MARK_DIGITS: usize = 12;

/// An event with blanks.
#[derive(Debug, Clone)]
pub struct Template {
    /// With anything in its blanks.
    pub text: Vec<u8>,
    /// Where each blank begins, and how wide it is.
    pub blanks: Vec<(Blank, usize, usize)>,
}

/// Both events, for a sender of a run.
pub fn templates(xml: bool, run: &str, sender: u32) -> [Template; 2] {
    let mark = format!("raven-mark={run}/{sender}/{{{}}}", "n".repeat(MARK_DIGITS));
    let texts = if xml { [XML_4624, XML_4688] } else { [JSON_4624, JSON_4688] };
    texts.map(|text| parse(&text.replace("{m}", &mark)))
}

fn parse(text: &str) -> Template {
    let mut template = Template { text: Vec::new(), blanks: Vec::new() };
    let mut rest = text;
    while let Some(brace) = rest.find('{') {
        template.text.extend_from_slice(&rest.as_bytes()[..brace]);
        let inside = &rest[brace + 1..];
        let width = inside.find('}').filter(|end| *end > 0).unwrap_or(0);
        if let Some(blank) = blank(&inside[..width]) {
            template.blanks.push((blank, template.text.len(), width));
            template.text.extend_from_slice(&inside.as_bytes()[..width]);
            rest = &inside[width + 1..];
        } else {
            template.text.push(b'{');
            rest = inside;
        }
    }
    template.text.extend_from_slice(rest.as_bytes());
    template
}

/// The blank that these letters stand for; none when the braces are text.
fn blank(letters: &str) -> Option<Blank> {
    let first = letters.bytes().next()?;
    if letters.bytes().any(|letter| letter != first) {
        return None;
    }
    match first {
        b'r' => Some(Blank::Record),
        b'n' => Some(Blank::Number),
        b'd' => Some(Blank::Decimal),
        b'h' => Some(Blank::Hex),
        b't' => Some(Blank::Time),
        _ => None,
    }
}
