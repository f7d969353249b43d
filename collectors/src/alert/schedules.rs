//! Scheduled tests whose results are beyond a threshold, by what the schedule role reports. It has held `for` results in a row
//! against it already, so there is nothing left to wait for.

use super::engine::{Finding, Look};
use raven_model::alert::Rule;
use raven_model::diag::schedule::{ScheduleReport, ScheduleStatus, Threshold, ThresholdState, ThresholdStatus};

/// One that is not known yet is neither well nor ill: the role was started a moment ago.
pub fn look_at(look: &mut Look, report: &ScheduleReport) {
    for schedule in &report.schedules {
        let told = schedule.thresholds.iter().filter(|threshold| threshold.state != ThresholdState::Well);
        look.findings.extend(told.map(|threshold| finding(schedule, threshold)));
    }
}

fn finding(schedule: &ScheduleStatus, threshold: &ThresholdStatus) -> Finding {
    let ThresholdStatus { threshold, limit, state, value, number } = threshold;
    let (name, test) = (&schedule.name, schedule.test);
    let last = schedule.last.as_ref().and_then(|last| last.why.as_deref());
    let why: String = last.map(|why| format!(": {why}")).unwrap_or_default().chars().take(200).collect();
    let is = match threshold {
        Threshold::Failed => format!("is {value}{why}"),
        Threshold::PathChanged => format!("goes another way than usual ({value})"),
        _ => format!("has {threshold} {value}, {limit}"),
    };
    Finding {
        rule: Rule::Diag,
        subject: format!("{name} {threshold}"),
        bad: *state == ThresholdState::Beyond,
        severity: Some(schedule.severity),
        since: None,
        value: *number,
        what: format!("the scheduled {test} {name} {is}"),
        remedy: match threshold {
            Threshold::DaysLeft => "have the certificate renewed by whoever runs that service",
            Threshold::Offset => "see `raven ntp`, and `system.ntp` for the servers of this box",
            Threshold::PathChanged => "see `raven trace` for the way it takes; a way that stays becomes the usual one",
            _ => "see `raven diag history` for since when, and make the same test by hand",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::alert::Severity;
    use raven_model::diag::schedule::TestKind;

    #[test]
    fn what_is_beyond_is_told_and_what_is_not_known_is_kept() {
        let threshold = |threshold, state| ThresholdStatus {
            threshold,
            limit: "above 20 %".to_owned(),
            state,
            value: "35.0 %".to_owned(),
            number: 35,
        };
        let schedule = ScheduleStatus {
            name: "gw".to_owned(),
            test: TestKind::Ping,
            when: String::new(),
            next_s: None,
            running: false,
            waiting: false,
            outcomes: [0; 4],
            last: None,
            severity: Severity::Critical,
            thresholds: vec![
                threshold(Threshold::Loss, ThresholdState::Beyond),
                threshold(Threshold::P95, ThresholdState::Well),
                threshold(Threshold::Failed, ThresholdState::Unknown),
            ],
        };
        let mut look = Look::default();
        look_at(&mut look, &ScheduleReport { schedules: vec![schedule], ..ScheduleReport::default() });
        let told: Vec<_> = look.findings.iter().map(|f| (f.subject.as_str(), f.bad, f.severity, f.value)).collect();
        let critical = Some(Severity::Critical);
        assert_eq!(told, [("gw loss", true, critical, 35), ("gw failed", false, critical, 35)]);
        assert_eq!(look.findings[0].what, "the scheduled ping gw has loss 35.0 %, above 20 %");
    }
}
