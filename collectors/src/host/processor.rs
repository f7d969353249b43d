//! `/proc/stat`, `/proc/loadavg`, `/proc/pressure/*`, `/proc/meminfo`.

use super::text::{decimal, nth, seconds, value};
use raven_model::host::{Cpu, Memory, Pressure, Stall};

/// Seconds per mode of all processors (proc(5)). Time of guests is in `user_s` already.
pub fn cpu(stat: &str, loadavg: &str, pressure: Option<&str>) -> Cpu {
    let cpus = stat.lines().filter(|line| numbered(line)).count();
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<&str> = all.split_whitespace().collect();
    let mode = |n: usize| seconds(nth(&ticks, n));
    let mut loads = loadavg.split_whitespace().map(decimal);
    let mut load = || loads.next().unwrap_or(0.0);
    Cpu {
        cpus: cpus as u32,
        user_s: mode(0),
        nice_s: mode(1),
        system_s: mode(2),
        idle_s: mode(3),
        iowait_s: mode(4),
        irq_s: mode(5),
        softirq_s: mode(6),
        steal_s: mode(7),
        busy: None,
        load_1: load(),
        load_5: load(),
        load_15: load(),
        pressure: pressure.and_then(self::pressure),
    }
}

fn numbered(line: &str) -> bool {
    line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Seconds in all modes, and those of them that were idle.
pub fn total_and_idle(cpu: &Cpu) -> (f64, f64) {
    let idle = cpu.idle_s + cpu.iowait_s;
    (cpu.user_s + cpu.nice_s + cpu.system_s + idle + cpu.irq_s + cpu.softirq_s + cpu.steal_s, idle)
}

/// Pressure stall information, as `/proc/pressure/*` has it; percent become shares. None without the line `some`.
pub fn pressure(text: &str) -> Option<Pressure> {
    let line = |kind: &str| text.lines().find_map(|line| line.strip_prefix(kind)).map(stall);
    Some(Pressure { some: line("some ")?, full: line("full ") })
}

fn stall(line: &str) -> Stall {
    let field = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key)).map_or(0.0, decimal);
    let share = |key| (field(key) * 100.0).round() / 1e4;
    Stall {
        share_10s: share("avg10="),
        share_60s: share("avg60="),
        share_300s: share("avg300="),
        total_s: field("total=") / 1e6,
    }
}

/// Memory; `/proc/meminfo` counts KiB.
pub fn memory(meminfo: &str, vmstat: &str, pressure: Option<&str>) -> Memory {
    let bytes = |key| value(meminfo, key).unwrap_or(0).saturating_mul(1024);
    Memory {
        total_bytes: bytes("MemTotal"),
        available_bytes: bytes("MemAvailable"),
        free_bytes: bytes("MemFree"),
        buffers_bytes: bytes("Buffers"),
        cached_bytes: bytes("Cached"),
        swap_total_bytes: bytes("SwapTotal"),
        swap_free_bytes: bytes("SwapFree"),
        oom_kills: value(vmstat, "oom_kill").unwrap_or(0),
        pressure: pressure.and_then(self::pressure),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const STAT: &str = "cpu  326930 18227 82905 437993 1284 0 2681 139 0 0
cpu0 164693 8854 40612 219308 326 0 1169 73 0 0
cpu1 162237 9373 42292 218684 957 0 1511 65 0 0
intr 2596328 0 0 0
ctxt 7
";
    const CPU_PRESSURE: &str = "some avg10=99.41 avg60=99.07 avg300=95.11 total=1332587586
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
";
    const MEMINFO: &str = "MemTotal:       24684084 kB
MemFree:        15155008 kB
MemAvailable:   22989604 kB
Buffers:           26448 kB
Cached:          7710744 kB
SwapCached:            0 kB
SwapTotal:       1048572 kB
SwapFree:        1048000 kB
";

    #[test]
    fn the_modes_of_all_processors_are_read() {
        let cpu = cpu(STAT, "12.08 11.06 7.41 13/180 26199\n", Some(CPU_PRESSURE));
        assert_eq!((cpu.cpus, cpu.user_s, cpu.softirq_s, cpu.steal_s), (2, 3269.3, 26.81, 1.39));
        assert_eq!((cpu.load_1, cpu.load_5, cpu.load_15), (12.08, 11.06, 7.41));
        let pressure = cpu.pressure.unwrap();
        assert_eq!((pressure.some.share_10s, pressure.some.total_s), (0.9941, 1_332.587_586));
        assert_eq!(pressure.full, Some(Stall::default()));
    }

    #[test]
    fn an_old_kernel_has_fewer_modes_and_no_pressure() {
        let cpu = cpu("cpu  1 2 3 4\n", "", None);
        assert_eq!((cpu.idle_s, cpu.iowait_s, cpu.cpus), (0.04, 0.0, 0));
        assert_eq!(cpu.pressure, None);
        assert_eq!(pressure("some avg10=1.00 avg60=x total=5\n").unwrap().full, None);
        assert_eq!(pressure("what\n"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let memory = memory(MEMINFO, "nr_free_pages 1\noom_kill 3\n", None);
        assert_eq!((memory.total_bytes, memory.cached_bytes), (24_684_084 << 10, 7_710_744 << 10));
        assert_eq!((memory.swap_free_bytes, memory.oom_kills), (1_048_000 << 10, 3));
        assert_eq!(super::memory("MemTotal: 18446744073709551615 kB", "", None).total_bytes, u64::MAX);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "(cpu[0-9]? |some |avg10=|MemTotal:|[0-9. \n-]|\\PC){0,60}") {
            let cpu = cpu(&text, &text, Some(&text));
            prop_assert!(serde_json::to_string(&cpu).is_ok());
            let _ = memory(&text, &text, Some(&text));
        }
    }
}
