//! A measurement in the JSON of `iperf3 -J` (3.12), for programs that read that. What Raven does not know of it (sizes of
//! buffers, `snd_wnd`, what else runs on the machine) is not there.

use raven_model::diag::bw::{
    BandwidthResult, BandwidthTest, Datagrams, Direction, Interval, Slice, Transfer, Transport, Volume,
};
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

/// All of it; `began` is Unix time, seconds.
pub fn report(test: &BandwidthTest, began: u64, intervals: &[Interval], result: &BandwidthResult) -> Value {
    json!({
        "start": start(test, began, result),
        "intervals": intervals.iter().map(interval).collect::<Vec<_>>(),
        "end": end(intervals, result),
    })
}

fn start(test: &BandwidthTest, began: u64, result: &BandwidthResult) -> Value {
    let connected = |transfer: &Transfer| {
        let mut fields = Fields::new();
        add(&mut fields, "socket", transfer.stream);
        for (end, address) in
            [("local", transfer.ends.map(|ends| ends.local)), ("remote", transfer.ends.map(|ends| ends.remote))]
        {
            add(&mut fields, &format!("{end}_host"), address.map(|address| address.ip().to_string()));
            add(&mut fields, &format!("{end}_port"), address.map(|address| address.port()));
        }
        Value::Object(fields)
    };
    let mut start = json!({
        "connected": result.streams.iter().map(connected).collect::<Vec<_>>(),
        "version": concat!("raven ", env!("CARGO_PKG_VERSION")),
        "timestamp": { "timesecs": began },
        "connecting_to": { "host": test.target, "port": test.port },
        "target_bitrate": test.rate.unwrap_or(0),
        "test_start": {
            "protocol": match test.transport { Transport::Tcp => "TCP", Transport::Udp => "UDP" },
            "num_streams": test.streams,
            "omit": test.omit,
            "duration": test.seconds,
            "bytes": 0,
            "blocks": 0,
            "reverse": u8::from(test.direction == Direction::Down),
            "tos": 0,
            "target_bitrate": test.rate.unwrap_or(0),
        },
    });
    if let Some(length) = test.length {
        start["test_start"]["blksize"] = json!(length);
    }
    start
}

/// From when to when, and what was moved.
fn fields(from: f64, to: f64, volume: &Volume, direction: Direction) -> Fields {
    let mut fields = Fields::new();
    fields.insert("start".to_owned(), json!(from));
    fields.insert("end".to_owned(), json!(to));
    fields.insert("seconds".to_owned(), json!(volume.seconds));
    fields.insert("bytes".to_owned(), json!(volume.bytes));
    fields.insert("bits_per_second".to_owned(), json!(volume.bits_per_second));
    // iperf3 says it of the client, for both ends.
    fields.insert("sender".to_owned(), json!(direction == Direction::Up));
    fields
}

fn add(fields: &mut Fields, name: &str, value: Option<impl Into<Value>>) {
    fields.extend(value.map(|value| (name.to_owned(), value.into())));
}

fn add_udp(fields: &mut Fields, udp: Option<&Datagrams>) {
    add(fields, "jitter_ms", udp.map(|udp| udp.jitter_us / 1000.0));
    add(fields, "lost_packets", udp.map(|udp| udp.lost));
    add(fields, "packets", udp.map(|udp| udp.sent));
    add(fields, "lost_percent", udp.map(|udp| udp.loss));
}

/// What a direction's sum is called: the second one is that of a test in both.
fn named(name: &str, place: usize) -> String {
    if place == 0 { name.to_owned() } else { format!("{name}_bidir_reverse") }
}

fn interval(interval: &Interval) -> Value {
    let of = |slice: &Slice| {
        let mut fields = fields(interval.from, interval.to, &slice.volume, slice.direction);
        fields.insert("omitted".to_owned(), json!(interval.omitted));
        add(&mut fields, "socket", slice.stream);
        add(&mut fields, "retransmits", slice.retransmits);
        add(&mut fields, "snd_cwnd", slice.tcp.map(|tcp| tcp.window));
        add(&mut fields, "rtt", slice.tcp.map(|tcp| tcp.rtt_us));
        add(&mut fields, "rttvar", slice.tcp.map(|tcp| tcp.rtt_var_us));
        add(&mut fields, "pmtu", slice.tcp.map(|tcp| tcp.path_mtu));
        add(&mut fields, "packets", slice.packets);
        add_udp(&mut fields, slice.udp.as_ref());
        Value::Object(fields)
    };
    let sums = interval.sums.iter().enumerate().map(|(place, slice)| (named("sum", place), of(slice)));
    let streams: Vec<Value> = interval.streams.iter().map(of).collect();
    Value::Object([("streams".to_owned(), json!(streams))].into_iter().chain(sums).collect())
}

fn end(intervals: &[Interval], result: &BandwidthResult) -> Value {
    let streams: Vec<Value> = result.streams.iter().map(|transfer| stream(intervals, result, transfer)).collect();
    let mut all = Fields::new();
    all.insert("streams".to_owned(), json!(streams));
    for (place, sum) in result.sums.iter().enumerate() {
        let [mut sent, mut received] = sides(sum);
        if result.transport == Transport::Udp {
            all.insert(named("sum", place), Value::Object(datagrams(sum)));
            // Here it says it of the end, and not of the client.
            sent.insert("sender".to_owned(), json!(true));
            received.insert("sender".to_owned(), json!(false));
        }
        all.insert(named("sum_sent", place), Value::Object(sent));
        all.insert(named("sum_received", place), Value::Object(received));
    }
    all.insert(
        "cpu_utilization_percent".to_owned(),
        json!({
            "host_total": result.cpu.total(),
            "host_user": result.cpu.user,
            "host_system": result.cpu.system,
            "remote_total": result.remote_cpu.total(),
            "remote_user": result.remote_cpu.user,
            "remote_system": result.remote_cpu.system,
        }),
    );
    Value::Object(all)
}

/// As its sender and as its receiver counted.
fn sides(transfer: &Transfer) -> [Fields; 2] {
    let [mut sent, mut received] =
        [&transfer.sent, &transfer.received].map(|volume| fields(0.0, volume.seconds, volume, transfer.direction));
    add(&mut sent, "retransmits", transfer.retransmits);
    add(&mut sent, "packets", transfer.udp.map(|udp| udp.sent));
    add_udp(&mut received, transfer.udp.as_ref());
    [sent, received]
}

/// As sent, with what became of it at the receiver.
fn datagrams(transfer: &Transfer) -> Fields {
    let mut fields = fields(0.0, transfer.sent.seconds, &transfer.sent, transfer.direction);
    add_udp(&mut fields, transfer.udp.as_ref());
    fields
}

fn stream(intervals: &[Interval], result: &BandwidthResult, transfer: &Transfer) -> Value {
    if result.transport == Transport::Udp {
        let mut fields = datagrams(transfer);
        add(&mut fields, "socket", transfer.stream);
        add(&mut fields, "out_of_order", transfer.udp.and_then(|udp| udp.out_of_order));
        return json!({ "udp": fields });
    }
    let [mut sent, mut received] = sides(transfer);
    add(&mut sent, "socket", transfer.stream);
    add(&mut received, "socket", transfer.stream);
    let slices = intervals.iter().filter(|interval| !interval.omitted).flat_map(|interval| &interval.streams);
    let states: Vec<_> = slices.filter(|slice| slice.stream == transfer.stream).filter_map(|slice| slice.tcp).collect();
    let rtts = || states.iter().map(|tcp| tcp.rtt_us);
    add(&mut sent, "max_snd_cwnd", states.iter().map(|tcp| tcp.window).max());
    add(&mut sent, "max_rtt", rtts().max());
    add(&mut sent, "min_rtt", rtts().min());
    let mean = rtts().map(u64::from).sum::<u64>().checked_div(states.len() as u64);
    add(&mut sent, "mean_rtt", mean);
    json!({ "sender": sent, "receiver": received })
}
