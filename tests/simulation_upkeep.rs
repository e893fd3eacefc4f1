//! The writer's own work: checkpoints after short lives, the front of the log, waits that must not spin, and
//! segments so small that work is split over frames.

// Helpers are no tests by themselves, so that clippy does not see that they may unwrap.
#![allow(clippy::unwrap_used)]

#[path = "simulation/desk.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod desk;
#[path = "simulation/machine.rs"]
#[allow(dead_code, reason = "shared with the simulation")]
mod machine;

use desk::{
    ack, ack_in, acking, counts, create_group, create_group_of_first_pull, create_mortal_group, create_topic,
    create_topic_called, create_topic_with, keep_settled, let_pass, let_pass_shortly, peek_all, publish, publish_batch,
    publish_delayed, publish_keyed, publish_tagged, publish_to, publishing, pull, pull_as, pull_request, pulling,
    redriving, seek, topic_counts, try_create_group, try_pull, try_seek,
};
use machine::{Machine, Place, poll};
use windlass::disk::sim::Fault;
use windlass::engine::{CreateGroupError, Engine as _, Pull};
use windlass::index::{Index, Mood};
use windlass::log::Step;
use windlass::model::{Delivery, Ordering, Start, Tag, TagFilter, TopicSettings};

fn ready(seed: u64, segment_bytes: u64) -> Machine {
    let mut machine = Machine::new(seed, segment_bytes);
    machine.start().unwrap();
    let_pass(&mut machine);
    create_topic(&mut machine);
    create_group(&mut machine, "g");
    machine
}

/// Without a checkpoint nothing may be dropped; a life may end before its first one is due.
#[test]
fn lives_shorter_than_a_checkpoint_interval_still_drop_the_front() {
    let mut machine = ready(1, 256 << 10);
    machine.checkpoint_interval = std::time::Duration::from_secs(3_600);
    for _ in 0..60 {
        machine.kill();
        machine.start().unwrap();
        publish(&mut machine, 1_000).unwrap();
        let pulled = pull(&mut machine, 10);
        ack(&mut machine, pulled);
        let_pass(&mut machine);
    }
    let segments = machine.segments();
    assert!(segments.len() <= 16, "{} segments after 60 lives that left nothing", segments.len());
}

/// Nothing in the front is needed; but an index that does not know what was in it would be of no use after a crash.
#[test]
fn the_front_waits_for_a_checkpoint_that_covers_it() {
    let mut machine = ready(12, 64 << 10);
    let_pass(&mut machine);
    for _ in 0..300 {
        publish(&mut machine, 4_000).unwrap();
        let pulled = pull(&mut machine, 10);
        ack(&mut machine, pulled);
        machine.advance(100);
        machine.turn().unwrap();
        // The checkpoint that waits is not run.
        while machine.rig.as_mut().unwrap().run_scan() {
            machine.turn().unwrap();
        }
        while !matches!(machine.keep().unwrap(), Step::Idle | Step::NoSpace) {}
    }
    machine.kill();
    machine.start().unwrap();
    assert_eq!(machine.engine().index_lost(), None);
    assert_eq!(counts(&mut machine, "g").ready, 0);
}

/// While the index is built again, whatever is due has to wait for it: without turning.
#[test]
fn the_writer_rests_while_the_index_is_built_again() {
    let mut machine = ready(2, 256 << 10);
    for _ in 0..20 {
        publish(&mut machine, 4_000).unwrap();
    }
    let pulled = pull(&mut machine, 10);
    machine.index_mood(Mood::Panicking, 1);
    // The checkpoint that is due fails; the rebuild that follows is not run.
    machine.advance(2_000);
    machine.turn().unwrap();
    while machine.rig.as_ref().unwrap().first_job() != Some("rebuild") {
        machine.run_job(0).expect("a checkpoint, and what it leads to");
        machine.turn().unwrap();
    }
    for _ in 0..100 {
        machine.advance(100);
        machine.turn().unwrap();
    }
    ack(&mut machine, pulled);
    let_pass(&mut machine);
    assert_eq!(pull(&mut machine, 100).deliveries.len(), 10);
}

/// An index that is lost in use is built again from the log. Where the log is damaged, that cannot be: the process
/// says so and ends, and the next start names file and byte.
#[test]
fn an_index_that_cannot_be_built_again_ends_the_process() {
    let mut machine = ready(21, 64 << 10);
    for _ in 0..60 {
        publish(&mut machine, 4_000).unwrap();
        let _ = machine.keep().unwrap();
    }
    let_pass(&mut machine);
    let second = format!("{:020}.seg", machine.segments()[1]);
    // Of a frame at least, its header and entries included.
    for byte in (4_000..14_000).step_by(20) {
        assert!(machine.disk.flip(&std::path::Path::new("/log").join(&second), byte, 3));
    }
    machine.index_mood(Mood::Panicking, 1);
    publish(&mut machine, 10).unwrap();
    machine.advance(2_000);
    let dead = (0..100).find_map(|_| {
        machine.run_job(0);
        machine.turn().err()
    });
    let why = dead.expect("it ends").0;
    assert!(why.contains("build the index again"), "{why}");
    machine.kill();
    let refused = machine.start().unwrap_err().to_string();
    assert!(refused.contains(&second), "{refused}");
}

/// Dead letters, trims and the rewriting of the front need room; until there is some, they wait without turning.
#[test]
fn the_writer_rests_while_the_disk_is_full() {
    for seed in 0..8 {
        let mut machine = ready(seed, 64 << 10);
        create_mortal_group(&mut machine, "mortal");
        machine.bound(300_000 + seed * 10_000);
        let mut held = Vec::new();
        // Until not even the reserve is left.
        for _ in 0..3_000 {
            let _ = publish(&mut machine, 3_000);
            let taken = try_pull(&mut machine, "mortal", 20, 50);
            held.extend(try_pull(&mut machine, "g", 20, 20_000).into_iter().flat_map(|pulled| pulled.deliveries));
            machine.advance(20);
            machine.run_job(0);
            let _ = machine.keep().unwrap();
            if taken.is_none() {
                break;
            }
        }
        for _ in 0..300 {
            machine.advance(100);
            machine.turn().unwrap();
            machine.run_job(0);
            let _ = machine.keep().unwrap();
        }
        machine.unbound();
        let_pass(&mut machine);
        publish(&mut machine, 100).expect("there is space again");
    }
}

/// Leases that lapse for the last time become dead letters, which need room: without any they wait for it, without
/// turning, and nobody gets them before.
#[test]
fn leases_that_end_on_a_full_disk_wait_for_room() {
    let mut machine = ready(20, 64 << 10);
    create_mortal_group(&mut machine, "mortal");
    publish_batch(&mut machine, 20);
    let held = try_pull(&mut machine, "mortal", 20, 60_000).unwrap();
    assert_eq!(held.deliveries.len(), 20);
    machine.bound(100_000);
    while publish(&mut machine, 3_000).is_ok() {
        let _ = machine.keep().unwrap();
    }
    // Leases take up the reserve, until there is none left for them either.
    let mut leases = 0;
    while try_pull(&mut machine, "g", 1, 1).is_some() {
        machine.advance(2);
        let _ = machine.keep().unwrap();
        leases += 1;
        assert!(leases < 20_000, "the reserve has no end");
    }
    machine.advance(60_000);
    for _ in 0..100 {
        machine.turn().unwrap();
        machine.advance(1);
    }
    assert!(counts(&mut machine, "mortal").in_flight > 0, "there is no room for all the dead letters");
    machine.unbound();
    let_pass(&mut machine);
    assert_eq!(counts(&mut machine, "mortal").in_flight, 0);
    assert_eq!(counts(&mut machine, "mortal").unsettled(), topic_counts(&mut machine).ready - 20);
}

/// Every command works in segments of this size, however little a frame of theirs holds.
fn all_of_it(segment_bytes: u64) {
    const MESSAGES: usize = 1_000;
    let mut machine = ready(3, segment_bytes);
    for _ in 0..MESSAGES / 10 {
        publish_batch(&mut machine, 10);
    }
    let mut pulled = Vec::new();
    while pulled.len() < MESSAGES {
        let got = pull(&mut machine, 1_000).deliveries;
        assert!(!got.is_empty(), "{} of {MESSAGES}", pulled.len());
        pulled.extend(got);
        let_pass(&mut machine);
    }
    // All of it is pending in one group; another one that begins at the head takes it over.
    create_group(&mut machine, "late");
    assert_eq!(counts(&mut machine, "late").ready, MESSAGES as u64);
    assert_eq!(seek(&mut machine, "g", 0).ahead, MESSAGES as u64);
    assert_eq!(counts(&mut machine, "g").ready, MESSAGES as u64);
    machine.power_cut(4);
    machine.start().unwrap();
    assert_eq!((counts(&mut machine, "g").ready, counts(&mut machine, "late").ready), (1_000, 1_000));
    for group in ["g", "late"] {
        let mut got = 0;
        while got < MESSAGES {
            let pulled = try_pull(&mut machine, group, 100, 60_000).unwrap();
            assert!(!pulled.deliveries.is_empty(), "{got} of {MESSAGES}");
            assert!(pulled.deliveries.iter().all(|one| one.attempt.get() == 1), "it was placed anew");
            got += pulled.deliveries.len();
            ack_in(&mut machine, group, pulled);
            let_pass(&mut machine);
        }
    }
    let_pass(&mut machine);
    assert!(machine.segments().len() < 12, "the front is dropped");
    for offset in 0..100 {
        create_group(&mut machine, &format!("g{offset}"));
    }
}

#[test]
fn segments_of_64_kib_serve_every_command() {
    all_of_it(64 << 10);
}

#[test]
fn segments_of_256_kib_serve_every_command() {
    all_of_it(256 << 10);
}

/// The head of a segment holds the catalog: where it holds no more of it, nothing more is made, and all goes on.
#[test]
fn a_catalog_that_fills_the_head_of_a_segment_is_refused_by_number() {
    let mut machine = ready(5, 64 << 10);
    let mut made = 0;
    let refused = loop {
        assert!(made < 5_000, "nothing bounds the catalog");
        match try_create_group(&mut machine, &format!("h{made}")) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        let_pass_shortly(&mut machine);
    };
    assert!(matches!(refused, CreateGroupError::TooMany { .. }), "{refused}");
    for _ in 0..100 {
        publish(&mut machine, 3_000).unwrap();
        let pulled = pull(&mut machine, 10);
        ack(&mut machine, pulled);
        let_pass_shortly(&mut machine);
    }
    machine.kill();
    machine.start().unwrap();
    publish(&mut machine, 3_000).unwrap();
}

/// Cut at every operation, a seek that takes several frames has happened wholly or not at all.
#[test]
fn a_seek_over_several_frames_happens_wholly_or_not_at_all() {
    const MESSAGES: u64 = 400;
    let (mut done, mut undone) = (0, 0);
    for at in 0.. {
        let mut machine = ready(6, 64 << 10);
        for _ in 0..MESSAGES / 10 {
            publish_batch(&mut machine, 10);
        }
        let mut leased = 0;
        while leased < MESSAGES {
            leased += pull(&mut machine, 100).deliveries.len() as u64;
        }
        let_pass(&mut machine);
        machine.disk.fail(at, Fault::PowerOff);
        let answered = try_seek(&mut machine, "g", 0);
        let hit = machine.disk.hits() > 0;
        machine.power_cut(at);
        machine.start().unwrap();
        let counts = counts(&mut machine, "g");
        assert!(
            (counts.ready, counts.in_flight) == (MESSAGES, 0) || (counts.ready, counts.in_flight) == (0, MESSAGES),
            "power off at operation {at}: {counts:?}"
        );
        if counts.ready > 0 {
            done += 1
        } else {
            undone += 1
        }
        assert!(counts.ready > 0 || !answered, "an answered seek is there");
        if !hit {
            break;
        }
    }
    assert!(done > 0 && undone > 3, "{done} done, {undone} not");
}

/// Where no index can be made, one in memory stands in: everything goes on, and a place that can be used again is.
#[test]
fn an_index_in_memory_serves_until_there_is_a_place_for_one() {
    let mut machine = ready(9, 256 << 10);
    publish_batch(&mut machine, 40);
    ack_ten(&mut machine);
    machine.kill();
    machine.index_mood(Mood::Empty, 1);
    machine.place.refuse(true);
    machine.start().unwrap();
    ack_ten(&mut machine);
    let held = try_pull(&mut machine, "g", 10, 3_600_000).unwrap();
    for _ in 0..20 {
        let_pass(&mut machine);
        publish(&mut machine, 1_000).unwrap();
    }
    assert_eq!(machine.place.0.lock().unwrap().mark().unwrap(), None, "nothing was written to the place");
    machine.place.refuse(false);
    for _ in 0..20 {
        publish(&mut machine, 1_000).unwrap();
        let_pass(&mut machine);
    }
    assert!(machine.place.0.lock().unwrap().mark().unwrap().is_some(), "a place that can be used again is");
    machine.kill();
    machine.start().unwrap();
    assert_eq!(counts(&mut machine, "g").ready, 10 + 40);
    ack(&mut machine, held);
    assert_eq!(pull(&mut machine, 100).deliveries.len(), 50);
}

/// Settled messages whose records went with the front are not there, whatever is kept from now on.
#[test]
fn a_topic_that_keeps_settled_messages_from_now_on_counts_only_what_is_there() {
    let mut machine = ready(10, 64 << 10);
    publish(&mut machine, 100).unwrap();
    let held = try_pull(&mut machine, "g", 1, 3_600_000).unwrap();
    assert_eq!(held.deliveries.len(), 1);
    for _ in 0..300 {
        publish(&mut machine, 4_000).unwrap();
        let pulled = pull(&mut machine, 10);
        ack(&mut machine, pulled);
        let_pass_shortly(&mut machine);
    }
    let_pass(&mut machine);
    machine.kill();
    machine.index_mood(Mood::Empty, 1);
    machine.start().unwrap();
    keep_settled(&mut machine);
    let kept = peek_all(&mut machine);
    assert!(kept < 100, "the front with most of the records was dropped, {kept} are left");
    assert_eq!(topic_counts(&mut machine).ready, kept);
    machine.kill();
    machine.start().unwrap();
    assert_eq!(topic_counts(&mut machine).ready, kept);
}

/// A message that nobody settles keeps all that follow it in the index, by its floor: but not those that are settled,
/// whether they were when their block was written first, or later.
#[test]
fn the_index_keeps_what_stays_behind_and_not_what_was_settled_around_it() {
    let mut machine = ready(41, 4 << 20);
    let mut left = Vec::new();
    for consumed_late in [false, true] {
        for _ in 0..20 {
            publish_batch(&mut machine, 100);
        }
        if consumed_late {
            let_pass(&mut machine);
            assert!(machine.block_bytes() > 2_000 * 50, "all of them are in the index");
        }
        for _ in 0..20 {
            let mut pulled = try_pull(&mut machine, "g", 100, 3_600_000).unwrap();
            left.push(pulled.deliveries.remove(0));
            ack(&mut machine, pulled);
        }
        let_pass(&mut machine);
        let bytes = machine.block_bytes();
        // The block where the group stands now is written when it has passed it.
        assert!(bytes < left.len() * 100 + 512 * 64, "{bytes} bytes for {} messages", left.len());
    }
    // They are there after a restart, and nothing else is.
    machine.kill();
    machine.start().unwrap();
    assert_eq!(machine.engine().index_lost(), None);
    assert_eq!(counts(&mut machine, "g").in_flight, 40);
    assert_eq!(peek_all(&mut machine), 40);
    assert_eq!(pull(&mut machine, 100).deliveries.len(), 0);
    // Settled messages are kept from now on: none of those before.
    keep_settled(&mut machine);
    assert_eq!(peek_all(&mut machine), 40);
    publish_batch(&mut machine, 10);
    let pulled = pull(&mut machine, 100);
    ack(&mut machine, pulled);
    assert_eq!((peek_all(&mut machine), topic_counts(&mut machine).ready), (50, 50));
    machine.kill();
    machine.start().unwrap();
    assert_eq!((peek_all(&mut machine), topic_counts(&mut machine).ready), (50, 50));
}

/// What stays behind is said again far behind its place when its segment goes; an index that is built from such a log,
/// in pieces, must not take all below the groups' cursors to be gone by then.
#[test]
fn a_message_that_stays_behind_is_found_again_when_the_index_is_built_in_pieces() {
    let day = std::time::Duration::from_secs(24 * 3_600);
    let mut machine = ready(96, 64 << 10);
    assert!(machine.spills);
    publish_delayed(&mut machine, day);
    let first = machine.segments()[0];
    for _ in 0..100 {
        publish_batch(&mut machine, 40);
        let pulled = pull(&mut machine, 40);
        ack(&mut machine, pulled);
        let_pass(&mut machine);
    }
    assert!(machine.segments()[0] > first, "its segment went");
    machine.kill();
    machine.place = Place::default();
    machine.start().unwrap();
    assert_eq!(topic_counts(&mut machine).delayed, 1);
    machine.advance(day.as_millis() as u64);
    assert_eq!(pull(&mut machine, 10).deliveries.len(), 1);
}

/// The first pull chooses for good where its group begins, also when the power is cut right behind its answer.
#[test]
fn where_a_first_pull_began_survives_a_power_cut() {
    for seed in 0..8 {
        let mut machine = ready(100 + seed, 4 << 20);
        publish_batch(&mut machine, 3);
        create_group_of_first_pull(&mut machine, "late");
        let at_tail = || Pull { start: Some(Start::Tail), ..pull_request("late", 10, 1_000) };
        assert_eq!(pull_as(&mut machine, at_tail()).len(), 0);
        machine.power_cut(seed);
        machine.start().unwrap();
        publish_batch(&mut machine, 1);
        assert_eq!(pull_as(&mut machine, at_tail()).len(), 1, "seed {seed}");
    }
}

/// What the filter of a pull passes in an ordered topic is passed for good, also when the power is cut right behind its
/// answer.
#[test]
fn what_a_filter_passed_in_an_ordered_topic_stays_passed_over_a_power_cut() {
    for seed in 0..8 {
        let mut machine = Machine::new(110 + seed, 4 << 20);
        machine.start().unwrap();
        let_pass(&mut machine);
        create_topic_with(&mut machine, TopicSettings { ordering: Ordering::PerKey, ..TopicSettings::default() });
        create_group(&mut machine, "g");
        publish_tagged(&mut machine, "k", &["a", "b"]);
        let filter = Some(TagFilter::AnyOf(vec![Tag::parse("b").unwrap()]));
        let taken = pull_as(&mut machine, Pull { filter, ..pull_request("g", 10, 1_000) });
        assert_eq!(taken.len(), 1);
        machine.power_cut(seed);
        machine.start().unwrap();
        machine.advance(2_000);
        let after = pull(&mut machine, 10).deliveries;
        let offsets = |list: &[Delivery]| list.iter().map(|one| one.message.head.offset).collect::<Vec<_>>();
        assert_eq!(offsets(&after), offsets(&taken), "seed {seed}");
    }
}

/// What may wait for a checkpoint is bounded by its memory: a message in each of many topics is little.
#[test]
fn publishes_to_many_topics_go_on_while_no_checkpoint_is_written() {
    let mut machine = ready(91, 16 << 20);
    let names: Vec<String> = (0..2_500).map(|number| format!("t{number}")).collect();
    names.iter().for_each(|name| create_topic_called(&mut machine, name, TopicSettings::default()));
    for name in &names {
        publish_to(&mut machine, name).unwrap();
    }
}

/// A sync that takes long may be one that fails: who pulls then is answered when it is over, and not before.
#[test]
fn a_pull_is_answered_during_a_sync_for_5_ms_and_after_it() {
    let mut machine = ready(51, 4 << 20);
    publish_batch(&mut machine, 10);
    let mut publishing = Box::pin(publishing(&machine, 1, 100));
    assert!(poll(publishing.as_mut()).is_none());
    machine.turn_during_sync().unwrap();
    assert!(machine.rig.as_ref().unwrap().is_syncing());
    let mut pulls = Vec::new();
    for (waited_ms, during) in [(0, true), (5, true), (1, false)] {
        machine.advance(waited_ms);
        let mut call = Box::pin(pulling(&machine, "g", 1, 60_000));
        let answer = (0..3).find_map(|_| {
            let answer = poll(call.as_mut());
            machine.turn_during_sync().unwrap();
            answer
        });
        assert_eq!(answer.is_some(), during, "{waited_ms} ms more");
        pulls.push(call);
    }
    assert!(poll(publishing.as_mut()).is_none());
    machine.turn().unwrap();
    let late = poll(pulls.pop().unwrap().as_mut()).expect("it is answered").unwrap();
    assert_eq!(late.deliveries.len(), 1);
    assert!(poll(publishing.as_mut()).is_some());
}

/// Who waits for it is told nothing, because what was written may be there after the restart that follows.
#[test]
fn a_publish_whose_sync_fails_is_not_answered() {
    let mut machine = ready(71, 4 << 20);
    let mut publishing = Box::pin(publishing(&machine, 1, 100));
    assert!(poll(publishing.as_mut()).is_none());
    machine.turn_during_sync().unwrap();
    machine.disk.fail(0, Fault::Io);
    assert!(machine.rig.as_mut().unwrap().run_sync());
    assert!(poll(publishing.as_mut()).is_none(), "it was answered");
}

/// A power cut may undo an ack that was not answered yet; by then nobody has what comes behind that message.
#[test]
fn in_an_ordered_topic_nobody_gets_the_next_message_before_the_ack_of_the_one_before_is_durable() {
    for ordering in [Ordering::PerKey, Ordering::Strict] {
        let mut machine = Machine::new(61, 4 << 20);
        machine.start().unwrap();
        let_pass(&mut machine);
        create_topic_with(&mut machine, TopicSettings { ordering, ..TopicSettings::default() });
        create_group(&mut machine, "g");
        publish_keyed(&mut machine, "k", 2);
        let first = pull(&mut machine, 1);
        let mut ack = Box::pin(acking(&machine, "g", first));
        assert!(poll(ack.as_mut()).is_none());
        machine.turn_during_sync().unwrap();
        let mut next = Box::pin(pulling(&machine, "g", 1, 60_000));
        for _ in 0..3 {
            assert!(poll(next.as_mut()).is_none(), "{ordering:?}");
            machine.turn_during_sync().unwrap();
        }
        machine.turn().unwrap();
        assert!(poll(ack.as_mut()).is_some());
        assert_eq!(poll(next.as_mut()).expect("it is answered").unwrap().deliveries.len(), 1, "{ordering:?}");
    }
}

/// What was moved stays moved: whoever asked learns how much, also when the server stops in between.
#[test]
fn a_redrive_that_a_stop_breaks_off_tells_what_it_moved() {
    let mut machine = ready(101, 4 << 20);
    create_mortal_group(&mut machine, "mortal");
    publish_batch(&mut machine, 600);
    assert_eq!(try_pull(&mut machine, "mortal", 600, 1).unwrap().deliveries.len(), 600);
    let_pass_shortly(&mut machine);
    let mut redriving = Box::pin(redriving(&machine, "dead"));
    // The first block: looked at, then moved.
    for _ in 0..2 {
        assert!(poll(redriving.as_mut()).is_none());
        machine.turn().unwrap();
    }
    let engine = machine.engine();
    let mut stopping = Box::pin(async move { engine.stop().await });
    assert!(poll(stopping.as_mut()).is_none());
    let report = machine.wait(redriving).unwrap().unwrap();
    assert_eq!((report.moved, report.left), (512, 0));
}

fn ack_ten(machine: &mut Machine) {
    let pulled = pull(machine, 10);
    assert_eq!(pulled.deliveries.len(), 10);
    ack(machine, pulled);
}

/// What lapses at once is swept a piece in each turn, of every group its part, so that no command waits for all.
#[test]
fn a_storm_of_lapses_is_swept_in_bounded_turns() {
    let mut machine = ready(31, 4 << 20);
    create_group(&mut machine, "h");
    let_pass(&mut machine);
    for _ in 0..5 {
        publish_batch(&mut machine, 1_000);
    }
    for group in ["g", "h"] {
        for _ in 0..50 {
            assert_eq!(try_pull(&mut machine, group, 100, 1_000).unwrap().deliveries.len(), 100);
        }
    }
    machine.advance(1_000);
    // A turn sweeps before it looks, and this is answered in the first.
    let first = counts(&mut machine, "g");
    assert_eq!((first.ready, first.in_flight), (2_048, 2_952), "half of what one turn may do");
    let_pass_shortly(&mut machine);
    for group in ["g", "h"] {
        assert_eq!(counts(&mut machine, group).ready, 5_000, "{group}");
    }
}
