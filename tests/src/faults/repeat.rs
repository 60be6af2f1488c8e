//! Honest clients among all faults, for as long as the user of the kit likes.

use super::Inject::Another;
use super::Verdict::{self, Fails, Flaky, NotTried, Survives};
use super::client::{Client, finish, has_ended, lines};
use super::{Outcome, Protocol, Target, attempt, faults};
use crate::grouped;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// Injects faults one after the other until the time is up, while clients make requests of many
/// lengths and check the replies. Faults for which one more server is started are left out.
pub fn repeat(names: &[&str], target: &mut Target, limit: Duration) -> Verdict {
    let selected = faults(target.client.protocol).filter(|fault| names.contains(&fault.name));
    let selected = selected.filter(|fault| !matches!(fault.inject, Another(_)));
    let number = selected.clone().count();
    if target.serves_one_client || number == 0 {
        return NotTried("the server survives no fault beside other clients".into());
    }
    if let Err(verdict) = target.repair() {
        return verdict;
    }
    let (client, start) = (target.client.with_patience(2), Instant::now());
    let (stop, served, mut rounds) = (AtomicBool::new(false), AtomicUsize::new(0), 0);
    let memory = |target: &Target| target.memory().unwrap_or_default();
    let (mut first, mut once) = (memory(target), None);
    let outcome = thread::scope(|scope| {
        let work = || keep_asking(&client, &stop, &served);
        let clients = [scope.spawn(work), scope.spawn(work)];
        let mut outcome = Ok(());
        for fault in selected.cycle() {
            let is_over = start.elapsed() > limit || clients.iter().any(|it| it.is_finished());
            if outcome.is_err() || is_over {
                break;
            }
            let failed = attempt(fault.inject, target);
            if let Err(Fails(symptom, details)) = failed {
                let verdict = Fails(symptom, format!("{}: {details}", fault.name));
                match attempt(fault.inject, target) {
                    Err(Fails(..)) => outcome = Err(verdict),
                    _ => once = Some(verdict),
                }
            }
            rounds += 1;
            first = if rounds == number { memory(target) } else { first };
        }
        stop.store(true, Relaxed);
        clients.into_iter().filter_map(|it| it.join().ok()).fold(outcome, Outcome::and)
    });
    let [rounds, served] = [rounds, served.into_inner()].map(grouped);
    let count = format!("{rounds} faults among {served} honest requests");
    let after = |details| format!("{details} after {count}");
    match (outcome, once) {
        (Err(Fails(symptom, details)), _) => Fails(symptom, after(details)),
        (_, Some(Fails(symptom, details))) => Flaky(symptom, after(details)),
        _ => Survives(format!("{count}; memory {first} MiB, then {} MiB", memory(target))),
    }
}

/// Makes exchanges of many lengths, twenty over each connection if the protocol allows that.
fn keep_asking(client: &Client, stop: &AtomicBool, served: &AtomicUsize) -> Outcome {
    let keeps = client.protocol == Protocol::Tcp && !client.once;
    while !stop.load(Relaxed) {
        let stream = if keeps { Some(client.open()?) } else { None };
        for _ in 0..20 {
            let number = served.fetch_add(1, Relaxed);
            let text = [number.to_string().as_bytes(), &lines(1 + number * 997 % 10_000)].concat();
            let request = client.request(&text);
            match &stream {
                // At its own limit of connections, a server may close one that is idle.
                Some(stream) if has_ended(stream) => break,
                Some(stream) => client.exchange_on(stream, &request)?,
                None => client.exchange(&request)?,
            }
            sleep(Duration::from_millis(20));
        }
        stream.iter().for_each(finish);
    }
    Ok(())
}
