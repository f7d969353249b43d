//! Which field a name stands for: one table for every agent.

use super::level;
use super::path::Path;

/// The fields of an event that have one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Who wrote it.
    Provider,
    /// What happened, by the provider's numbers.
    EventId,
    /// The log that it was written to.
    Channel,
    /// 0 to 5, or a word for it.
    Level,
    /// NXLog's own scale: 1 (debug) to 5 (critical).
    Severity,
    /// Where it happened.
    Computer,
    /// Its number in the log.
    RecordId,
    /// When it happened.
    Time,
    /// On whose behalf.
    User,
    /// The domain of a user that is given by name.
    Domain,
    /// The text for people.
    Message,
}

/// How much a name is to be trusted: 0 is Windows's own place for the field. From [`WEAK`] on the name may also be one
/// of the event's own data.
pub type Rank = u8;

/// From here on a name may mean something else.
pub const WEAK: Rank = 4;

/// What stands at `path`, if it is not one of the event's own data.
pub fn of(path: &Path, value: &str) -> Option<(Field, Rank)> {
    ecs(path.folded()).or_else(|| plain(path.unwrapped(), path.name(), value))
}

/// Elastic's names, whose `event` is no wrapper.
fn ecs(folded: &str) -> Option<(Field, Rank)> {
    Some(match folded {
        "event.code" => (Field::EventId, 3),
        "event.provider" => (Field::Provider, 3),
        "log.level" => (Field::Level, 4),
        "host.name" | "host.hostname" => (Field::Computer, 3),
        "agent.hostname" | "beat.hostname" => (Field::Computer, 5),
        "user.id" => (Field::User, 4),
        "user.name" => (Field::User, 5),
        "user.domain" => (Field::Domain, 5),
        "timestamp" => (Field::Time, 4),
        _ => return None,
    })
}

fn plain(path: &str, name: &str, value: &str) -> Option<(Field, Rank)> {
    Some(match path {
        "system.provider.name" | "winlog.providername" | "system.providername" => (Field::Provider, 0),
        "providername" | "winlog.sourcename" | "provider.name" => (Field::Provider, 1),
        "sourcename" => (Field::Provider, 2),
        "source" | "provider" | "renderinginfo.provider" => (Field::Provider, 4),

        "system.eventid" | "winlog.eventid" => (Field::EventId, 0),
        "eventid" => (Field::EventId, 1),
        "id" => (Field::EventId, 4),

        "system.channel" | "winlog.channel" => (Field::Channel, 0),
        "channel" | "logname" | "winlog.logname" => (Field::Channel, 1),
        "renderinginfo.channel" | "containerlog" => (Field::Channel, 3),

        "system.level" | "winlog.level" | "levelvalue" => (Field::Level, 0),
        "level" => (Field::Level, 1),
        "leveldisplayname" | "levelname" | "renderinginfo.level" => (Field::Level, 2),
        "eventtype" | "entrytype" if level::of_entry_type(value).is_some() => (Field::Level, 2),
        "severityvalue" => (Field::Severity, 3),
        "severity" => (Field::Level, 3),

        "system.computer" | "winlog.computername" => (Field::Computer, 0),
        "computername" | "computer" | "machinename" => (Field::Computer, 1),
        "hostname" => (Field::Computer, 2),
        "host" => (Field::Computer, 5),

        "system.eventrecordid" | "winlog.recordid" => (Field::RecordId, 0),
        "recordid" | "eventrecordid" | "recordnumber" | "winlog.recordnumber" => (Field::RecordId, 1),
        "index" => (Field::RecordId, 4),

        "system.timecreated.systemtime" | "system.systemtime" => (Field::Time, 0),
        "timecreated" | "timecreated.systemtime" => (Field::Time, 1),
        "timegenerated" | "eventtime" => (Field::Time, 2),
        "timewritten" => (Field::Time, 3),
        "time" | "date" => (Field::Time, 5),

        "system.security.userid" | "winlog.user.identifier" => (Field::User, 0),
        "userid" | "sid" => (Field::User, 1),
        "accountname" | "winlog.user.name" => (Field::User, 3),
        "user" if name == "user" => (Field::User, 5),
        "username" => (Field::User, 5),
        "domain" | "winlog.user.domain" => (Field::Domain, 3),

        "message" | "renderinginfo.message" | "system.message" | "winlog.message" => (Field::Message, 0),
        "description" if name == "description" => (Field::Message, 1),
        _ => return None,
    })
}

/// What agents put beside an event's own data where they do not keep the two apart.
pub fn is_header(path: &str) -> bool {
    const NAMES: [&str; 32] = [
        "host",
        "timestamp",
        "version",
        "task",
        "taskvalue",
        "opcode",
        "opcodevalue",
        "keywords",
        "providerguid",
        "executionprocessid",
        "threadid",
        "activityid",
        "relatedactivityid",
        "category",
        "eventcategory",
        "eventtypeorignal", // as NXLog's configurations in the field spell it
        "qualifiers",
        "accounttype",
        "sourcemodulename",
        "sourcemoduletype",
        "eventreceivedtime",
        "tags",
        "port",
        "type",
        "categorynumber",
        "instanceid",
        "site",
        "container",
        "xml",
        "sourcetype",
        "kafkatopic",
        "ingesttimestamp",
    ];
    const OBJECTS: [&str; 8] = ["agent.", "beat.", "ecs.", "input.", "log.", "host.", "metadata.", "winlog."];
    NAMES.contains(&path) || OBJECTS.iter().any(|object| path.starts_with(object))
}
