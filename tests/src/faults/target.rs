//! The server under test: how it is started, and what its processes do.

use super::Verdict::{Fails, NotTried};
use super::client::{Client, Content, Options, PAUSE, TICK, finish};
use super::{Outcome, Protocol, Verdict, require};
use crate::{Process, proc, signal, unused_address, wait_until};
use std::fmt;
use std::io::Write;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A server to inject faults into.
pub struct Target {
    pub(super) client: Client,
    /// Whether a second client waits while one is connected.
    pub(super) serves_one_client: bool,
    /// Whether requests make it start processes.
    starts_processes: bool,
    /// Symptoms of which a row was accused, or which ordinary requests cause.
    pub(super) known: Vec<&'static str>,
    /// How ordinary requests break it, if they do.
    pub ordinary: Option<String>,
    /// Whether it is to be started again before the next fault.
    pub(super) needs_restart: bool,
    /// When no client is connected.
    pub(super) usage: Usage,
    /// What the verdict mentions if it survives the fault that is being injected.
    remarks: Mutex<Vec<String>>,
    /// `None` for a server that was already running.
    pub(super) server: Option<Process>,
}

impl Target {
    /// Starts a server, unless it is already running, and finds out how it replies.
    ///
    /// # Errors
    ///
    /// Returns why the server cannot be checked, or how the first requests broke it.
    pub fn new(protocol: Protocol, options: Options) -> Outcome<Target> {
        let mut target = Target::unknown(Client::new(protocol, options));
        if target.has_command() { target.launch(None, false) } else { target.wait_until_ready() }?;
        let unlearned = target.client.clone();
        match target.learn() {
            Err(problem @ Fails(..)) => {
                // It replied at first. A second request over a connection may be too much for it.
                target.client = Client { greets: target.client.greets, once: true, ..unlearned };
                target.starts_processes = true;
                target.ordinary = Some(target.blame(&problem));
                target.needs_restart = true;
            }
            learned => learned?,
        }
        Ok(target)
    }

    fn unknown(client: Client) -> Target {
        Target {
            client,
            serves_one_client: false,
            starts_processes: false,
            known: Vec::new(),
            ordinary: None,
            needs_restart: false,
            usage: Usage::default(),
            remarks: Mutex::default(),
            server: None,
        }
    }

    fn has_command(&self) -> bool {
        !self.client.options.command.is_empty()
    }

    /// Starts the server, and waits until it replies. If it is `tapped`, its standard output and
    /// standard error are left to the caller.
    fn launch(&mut self, descriptors: Option<usize>, tapped: bool) -> Outcome {
        let (start, given) = (Instant::now(), self.client.options.address);
        loop {
            self.client.address = given.unwrap_or_else(unused_address);
            self.spawn(descriptors, tapped)?;
            let result = self.wait_until_ready();
            // A port is not free at once after another server has used it.
            let is_in_use = |how: String| given.is_some() || how.contains("in use");
            let again = result.is_err() && self.exit().is_some_and(is_in_use);
            if !again || start.elapsed() > self.client.options.start {
                return result;
            }
            sleep(Duration::from_millis(500));
        }
    }

    /// Starts a process of the server at its address.
    pub(super) fn spawn(&mut self, descriptors: Option<usize>, tapped: bool) -> Outcome {
        let port = self.client.address.port().to_string();
        let words = self.client.options.command.iter();
        let mut words: Vec<String> = words.map(|word| word.replace("{port}", &port)).collect();
        if let Some(limit) = descriptors {
            // Sets both limits, since some runtimes raise the soft one.
            let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
            words.splice(0..0, ["sh".into(), "-c".into(), script]);
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        // The first line of a panic is enough, and output is not held back.
        command.env("RUST_BACKTRACE", "0").env("PYTHONUNBUFFERED", "1");
        let started = Process::guarded(&mut command, tapped);
        let cannot = |error| NotTried(format!("cannot start {}: {error}", words[0]));
        self.server = Some(started.map_err(cannot)?);
        Ok(())
    }

    /// Starts one more server by the same command, with this limit on its descriptors.
    pub(super) fn another(&mut self, limit: Option<usize>, tapped: bool) -> Outcome<Target> {
        require(self.has_command(), "needs the command")?;
        if self.client.options.address.is_some() {
            self.server = None;
            self.needs_restart = true;
        }
        let mut target = Target::unknown(self.client.clone());
        target.known.clone_from(&self.known);
        target.starts_processes = self.starts_processes;
        target.launch(limit, tapped)?;
        target.usage = target.usage_at_start();
        Ok(target)
    }

    pub(super) fn wait_until_ready(&mut self) -> Outcome {
        self.usage = Usage::default(); // It was that of other processes.
        let (start, limit) = (Instant::now(), self.client.options.start);
        let (mut client, request) = (self.client.clone(), self.client.request(b"x\n"));
        if client.protocol == Protocol::Udp {
            client.patience = client.patience.min(Duration::from_secs(1));
        }
        while let Err(problem) = client.exchange(&request) {
            match self.exit() {
                // It may not listen yet in the background.
                Some(how) if how.starts_with("exit status: 0") && start.elapsed() < limit / 2 => {}
                Some(how) => return Err(NotTried(format!("the server exited: {how}"))),
                None => {}
            }
            if start.elapsed() > limit {
                return Err(NotTried(match problem {
                    Fails("loses data", details) if client.options.reply.is_some() => {
                        format!("the server {details}, which does not contain --reply")
                    }
                    _ => self.why_silent(limit),
                }));
            }
            if client.protocol == Protocol::Udp && matches!(problem, Fails("hangs", _)) {
                // The other way is tried, and then both again for longer.
                client.any_port = !client.any_port;
                client.patience += client.patience / 2;
            }
            sleep(Duration::from_millis(20));
        }
        // A late reply may have been taken for one from another port.
        let is_direct = || Client { any_port: false, ..client.clone() }.exchange(&request).is_ok();
        self.client.any_port = client.any_port && (self.client.any_port || !is_direct());
        Ok(())
    }

    fn why_silent(&self, limit: Duration) -> String {
        let (address, own) = (self.client.address, self.client.protocol);
        let mut ports = Vec::new();
        for id in self.processes().unwrap_or_default() {
            for protocol in ["tcp", "udp"] {
                let found = proc::listens_on(id, protocol).into_iter();
                ports.extend(found.map(|port| (protocol, port)));
            }
        }
        let missing =
            if self.client.options.no_reply { "no request read by" } else { "no reply from" };
        let silence = format!("{missing} {address} within {} s", limit.as_secs_f64());
        let pass = "pass --request, and perhaps --reply or --no-reply";
        match ports.first() {
            Some((protocol, port)) if !ports.contains(&(own.name(), address.port())) => {
                let listens = format!("listens on {} port {port}", protocol.to_uppercase());
                format!("{silence}; the server {listens}: pass --port {port}")
            }
            None if own == Protocol::Udp || self.client.connect().is_err() => {
                format!("{silence}; does the server listen there? Otherwise {pass}")
            }
            _ => format!("{silence}, although the server listens there: {pass}"),
        }
    }

    /// Returns how ordinary requests break the server, and which.
    fn blame(&mut self, learning: &Verdict) -> String {
        self.needs_restart = true;
        // It has replied once, and the client has disconnected.
        if let Err(verdict) = self.repair().and_then(|()| self.aftermath(Ok(()))) {
            return format!("{} after a request and a disconnect", verdict.reason());
        }
        let empty = self.client.open().map(|stream| finish(&stream));
        match self.aftermath(empty) {
            Err(verdict) => format!("{} after an empty connection", verdict.reason()),
            Ok(()) => format!("{} after a few requests", learning.reason()),
        }
    }

    /// Finds out how the server replies.
    fn learn(&mut self) -> Outcome {
        let is_tcp = self.client.protocol == Protocol::Tcp;
        let processes = self.usage_at_start().workers;
        for time in [3 * PAUSE, 20 * PAUSE] {
            if is_tcp && !self.speaks_first() {
                self.learn_greeting(time)?;
            }
            if !self.client.options.no_reply && self.client.options.reply.is_none() {
                self.learn_content()?;
            }
            // Otherwise, what was taken for the reply may be a late greeting.
            if self.client.greets || !matches!(self.client.content, Content::Unknown) {
                break;
            }
        }
        if is_tcp {
            if !self.client.options.no_reply {
                // Not for a busy machine.
                self.client.once = !self.may_repeat_requests()? && !self.may_repeat_requests()?;
            }
            self.serves_one_client =
                !self.serves_second_client()? && !self.serves_second_client()?;
        }
        self.recover()?;
        if is_tcp && matches!(self.assert_idle(), Err(Fails(..))) {
            self.known.push("spins");
        }
        self.usage = self.usage_now();
        self.starts_processes = !self.usage.workers.iter().all(|id| processes.contains(id));
        Ok(())
    }

    fn speaks_first(&self) -> bool {
        self.client.options.request.as_deref() == Some(b"")
    }

    fn learn_greeting(&mut self, time: Duration) -> Outcome {
        let client = &mut self.client;
        let stream = client.connect()?;
        stream.set_read_timeout(Some(time))?;
        client.greets = matches!(stream.peek(&mut [0]), Ok(1));
        stream.set_read_timeout(Some(client.patience))?;
        if client.greets {
            let greeting = client.read(&stream, None)?;
            let contains_reply = client.options.reply.is_some() && client.is_given(&greeting);
            let replies = client.exchange_on(&stream, &client.request(b"x\n"));
            if contains_reply || matches!(replies, Err(Fails("hangs", _))) {
                let start = greeting[..greeting.len().min(60)].escape_ascii();
                let found = if contains_reply { "contains the reply" } else { "is its only reply" };
                let advice = "pass --request '' if the server speaks first";
                return Err(NotTried(format!("its greeting \"{start}\" {found}: {advice}")));
            }
            replies?;
        }
        finish(&stream);
        Ok(())
    }

    fn learn_content(&mut self) -> Outcome {
        let request = self.client.request(b"x\n");
        if self.client.options.request.is_some() {
            let client = &self.client;
            let sample = || match client.protocol {
                Protocol::Udp => client.reply_to(&request),
                Protocol::Tcp => {
                    let mut stream = client.open()?;
                    let _ = stream.write_all(&request);
                    client.read(&stream, None).inspect(|_| finish(&stream))
                }
            };
            let first = sample()?;
            // No more than the part of a reply that tells a success from an error, as in HTTP.
            let (mut common, mut is_like) = (first.len().min(12), true);
            for _ in 1..5 {
                let sample = sample()?;
                common = sample.iter().zip(&first[..common]).take_while(|(a, b)| a == b).count();
                is_like &= sample.len() == first.len();
            }
            if is_like {
                self.client.content = Content::Like(first.len(), first[..common].to_vec());
            }
            return Ok(());
        }
        for function in [<[u8]>::to_ascii_uppercase, <[u8]>::to_vec] {
            self.client.content = Content::Function(function);
            match self.client.exchange(&request) {
                Err(Fails("loses data", _)) => self.client.content = Content::Unknown,
                other => return other,
            }
        }
        Ok(())
    }

    /// Returns whether the server replies to a second request over a connection, some time after the
    /// first.
    fn may_repeat_requests(&self) -> Outcome<bool> {
        let (client, request) = (&self.client, self.client.request(b"x\n"));
        let stream = client.open()?;
        client.exchange_on(&stream, &request)?;
        sleep(5 * PAUSE);
        let second = client.exchange_on(&stream, &request);
        finish(&stream);
        Ok(!self.speaks_first() && second.is_ok())
    }

    /// Returns whether the server replies to a client while another one is connected.
    fn serves_second_client(&self) -> Outcome<bool> {
        let (client, request) = (&self.client, self.client.request(b"x\n"));
        let first = client.open()?;
        let second = client.connect()?;
        second.set_read_timeout(Some(Duration::from_secs(2)))?;
        let greeted = client.read_greeting(&second);
        let served = greeted.and_then(|()| client.exchange_on(&second, &request)).is_ok();
        finish(&first);
        if !served {
            // The late reply is read as well, lest its connection is reset.
            second.set_read_timeout(Some(client.patience))?;
            let _ = client.reply(&second, &request);
        }
        finish(&second);
        Ok(served)
    }

    /// Describes in a sentence or two how the server replies.
    pub fn summary(&self) -> String {
        let Client { address, content, options, greets, .. } = &self.client;
        let mut summary = match content {
            _ if options.no_reply => format!("{address} never replies."),
            Content::Function(reply_to) => {
                format!("{address} replies to Abc with {}.", reply_to(b"Abc").escape_ascii())
            }
            Content::Given => format!("{address} replies as given."),
            Content::Like(length, _) => format!("{address} replies with {length} bytes."),
            Content::Unknown => format!(
                "{address} replies with other bytes, perhaps with an error. \
                 Replies that are cut off go unnoticed. Pass --request and --reply."
            ),
        };
        let say = |is_true, text| if is_true { text } else { "" };
        summary += say(*greets, " It greets each client.");
        summary += say(self.client.any_port, " Its replies arrive from another port.");
        summary += say(self.client.once, " It replies once over each connection.");
        summary + say(self.serves_one_client, " It serves one client at a time.")
    }

    /// Returns a warning if `--reply` is also contained in the reply to a request that no protocol has.
    pub fn warning(&self) -> Option<String> {
        const ODD: &[u8] = b"????????\r\n\r\n";
        let client = Client { patience: self.client.patience / 5, ..self.client.clone() };
        let may_pass = client.options.reply.is_some() && !self.speaks_first();
        let is_weak = may_pass && client.exchange(ODD).is_ok();
        let text = "contains --reply as well, so an error may pass for a reply.";
        is_weak.then(|| format!("The reply to \"{}\" {text}", ODD.escape_ascii()))
    }

    pub(super) fn is_known_to(&self, symptom: &str) -> bool {
        self.known.contains(&symptom)
    }

    /// Adds a remark to the verdict of a server that survives.
    pub(super) fn remark(&self, text: String) {
        let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        if !remarks.contains(&text) {
            remarks.push(text);
        }
    }

    pub(super) fn forget_remarks(&mut self) {
        self.remarks = Mutex::default();
        if matches!(self.client.content, Content::Unknown) && !self.client.options.no_reply {
            self.remark("content not checked".into());
        }
    }

    pub(super) fn remarks(&self) -> String {
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner).join("; ")
    }

    /// Starts the server again if the last fault broke it, or if it has exited since.
    pub(super) fn repair(&mut self) -> Outcome {
        if (self.needs_restart || self.exit().is_some()) && self.has_command() {
            self.needs_restart = true;
            self.server = None; // Its port may be needed.
            let started = self.launch(None, false);
            started.map_err(|it| NotTried(format!("cannot be started again: {}", it.reason())))?;
            self.usage = self.usage_at_start();
        } else if self.needs_restart {
            self.recover().map_err(|_| NotTried("the server no longer replies".into()))?;
        }
        self.needs_restart = false;
        Ok(())
    }

    /// Waits until the server replies. It may not reply to the first request because of the fault.
    pub(super) fn recover(&mut self) -> Outcome {
        let mut probed = Ok(());
        wait_until(2 * self.client.patience, || {
            let has_exited = self.exit().is_some();
            probed = self.client.probe();
            probed.is_ok() || has_exited
        });
        probed
    }

    /// Checks that the server still runs, replies, and is idle when nothing is sent to it. Returns
    /// what explains most: `injected` is the result of the fault itself. After a fault that was not
    /// tried, the server need only run.
    pub(super) fn aftermath(&mut self, injected: Outcome) -> Outcome {
        if let Err(NotTried(_)) = injected {
            let probed = self.client.probe();
            sleep(TICK); // gives a process time to exit
            return match (self.exit(), probed) {
                (Some(how), _) => Err(Fails("exits", how)),
                (None, exits @ Err(Fails("exits", _))) => exits,
                _ => injected,
            };
        }
        let probed = self.recover();
        let hangs = |outcome: &Outcome| matches!(outcome, Err(Fails("hangs", _)));
        let is_known = self.is_known_to("spins") && !hangs(&probed) && !hangs(&injected);
        // Also gives a process time to exit.
        let idle = if is_known { Ok(()) } else { self.assert_idle() };
        if let Some(how) = self.exit() {
            return Err(Fails("exits", how));
        }
        let afterwards = |outcome: Outcome| outcome.map_err(|problem| problem.with(" afterwards"));
        let workers = self.assert_same_workers();
        match (&probed, &idle, &injected) {
            (Err(Fails("exits", _)), ..) => probed,
            _ if workers.is_err() => workers,
            // It does not reply because it is busy.
            (_, Err(Fails(..)), Ok(()) | Err(Fails("hangs", _))) => afterwards(idle),
            (.., Err(Fails(..))) => injected,
            (Err(Fails(..)), ..) => afterwards(probed),
            _ => probed.and(idle).and(injected),
        }
    }

    /// Fails if the server uses a core while nothing is sent to it. Work that takes less than half of
    /// the patience is no failure, since it may be left over.
    ///
    /// A thread that waits for a core is as busy as one that runs, so other processes change nothing.
    /// The time that threads have used counts as well, since they may not live long.
    pub(super) fn assert_idle(&self) -> Outcome {
        const TICKS: u32 = 4;
        let (start, mut used, mut busy, mut all) = (Instant::now(), Duration::ZERO, 0, 0);
        while self.server.is_some() {
            // Listing all processes of the system takes long.
            let family = self.processes().unwrap_or_default();
            let cpu_time = || -> Duration { family.iter().map(|id| proc::cpu_time(*id)).sum() };
            let before = cpu_time();
            let is_busy = |_: &u32| {
                sleep(TICK);
                is_runnable(&family)
            };
            let runnable = (0..TICKS).filter(is_busy).count();
            let recent = cpu_time().saturating_sub(before);
            used += recent;
            if runnable == 0 && recent < TICK {
                return Ok(());
            }
            all += 1;
            busy += u32::from(runnable >= 2 || recent > TICKS * TICK / 2);
            let elapsed = start.elapsed();
            if elapsed < 3 * self.client.patience / 5 {
            } else if 10 * busy < 8 * all {
                break;
            } else if used >= self.client.patience / 2 {
                let details = format!("uses a whole core while idle, for {} s", elapsed.as_secs());
                return Err(Fails("spins", details));
            } else if elapsed.as_secs() >= 60 {
                return Err(NotTried("the machine is too busy to tell whether it spins".into()));
            }
        }
        Ok(())
    }

    /// Fails if a process that served before the fault has exited, even if the server has replaced it.
    pub(super) fn assert_same_workers(&self) -> Outcome {
        let is_running = |id: &&u32| proc::state(**id).is_some_and(|state| state != 'Z');
        let before = if self.starts_processes { &Vec::new() } else { &self.usage.workers };
        let gone = before.len() - before.iter().filter(is_running).count();
        // A server that has more than before may end those that it no longer needs.
        if gone == 0 || self.usage_now().workers.len() > before.len() {
            return Ok(());
        }
        let cause = self.server.as_ref().map(Process::cause).unwrap_or_default();
        Err(Fails("exits", format!("{gone} of {} processes: {cause}", before.len())))
    }

    /// Returns what the processes of the server use.
    pub(super) fn usage_now(&self) -> Usage {
        let mut workers = self.processes().unwrap_or_default();
        let descriptors = workers.iter().map(|id| proc::descriptors(*id)).sum();
        let processes = workers.len();
        workers.retain(|id| proc::state(*id).is_some_and(|state| state != 'Z'));
        Usage { descriptors, processes, workers }
    }

    /// The same, once a process that was started for the first request has had the time to exit.
    pub(super) fn usage_at_start(&mut self) -> Usage {
        if self.processes().is_ok_and(|processes| processes.len() > 1) {
            let _ = self.assert_idle(); // It is checked after the fault.
        }
        self.exit(); // It may have gone on in the background, where its processes are others.
        self.usage_now()
    }

    /// Waits until descriptors and processes are as few as before; returns what is left over once it
    /// becomes no less.
    pub(super) fn left_over(&self) -> Option<Usage> {
        const SLACK: usize = 4; // A runtime may open a few for itself.
        let (start, mut least, mut since) = (Instant::now(), usize::MAX, Instant::now());
        while !self.is_known_to("leaks") {
            let mut left_over = self.usage_now();
            left_over.descriptors = left_over.descriptors.saturating_sub(self.usage.descriptors);
            left_over.processes = left_over.processes.saturating_sub(self.usage.processes);
            if left_over.descriptors.max(left_over.processes) <= SLACK {
                break;
            }
            // A busy system may not let it close connections. One that spins is never idle.
            let may_wait = start.elapsed() < 6 * self.client.patience && !self.is_known_to("spins");
            if may_wait && is_runnable(&left_over.workers) || left_over.total() < least {
                (least, since) = (left_over.total(), Instant::now());
            } else if since.elapsed() > self.client.patience {
                return Some(left_over);
            }
            sleep(TICK);
        }
        None
    }

    /// Returns how the process of the server ended, if it has.
    pub(super) fn exit(&mut self) -> Option<String> {
        self.server.as_mut()?.exit(self.client.protocol.name(), self.client.address.port())
    }

    /// Returns the process of the server and its descendants, which Linux lists.
    pub(super) fn processes(&self) -> Outcome<Vec<u32>> {
        let server = self.server.as_ref().ok_or(NotTried("needs the command".into()))?;
        let family = server.family();
        if family.is_empty() { Err(NotTried("needs Linux".into())) } else { Ok(family) }
    }

    /// Returns the resident memory of all processes in MiB.
    pub(super) fn memory(&self) -> Outcome<usize> {
        let sizes = self.processes()?.into_iter().filter_map(|id| proc::status(id, "VmRSS"));
        Ok(sizes.sum::<usize>() >> 10)
    }

    pub(super) fn suspend(&self) -> Outcome {
        let processes = self.processes()?;
        signal("STOP", &processes);
        let is_suspended = |id| proc::state(id).is_none_or(|state| "TZ".contains(state));
        let threads = || processes.iter().flat_map(|id| proc::threads(*id));
        let suspended = wait_until(self.client.patience, || threads().all(is_suspended));
        require(suspended, "SIGSTOP cannot be sent by sh")
    }

    pub(super) fn resume(&self) {
        signal("CONT", &self.processes().unwrap_or_default());
    }
}

/// Returns whether a thread of one of the processes runs, or waits for a core.
fn is_runnable(processes: &[u32]) -> bool {
    let mut threads = processes.iter().flat_map(|id| proc::threads(*id));
    threads.any(|thread| proc::state(thread) == Some('R'))
}

/// What the processes of a server use.
#[derive(Clone, Default)]
pub(super) struct Usage {
    descriptors: usize,
    /// How many processes there are, those that have exited and were not waited for included.
    processes: usize,
    /// The processes that have not exited.
    workers: Vec<u32>,
}

impl Usage {
    pub(super) fn total(&self) -> usize {
        self.descriptors + self.processes
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} more open descriptors", self.descriptors)?;
        let processes = self.processes;
        if processes > 0 { write!(f, " and {processes} processes") } else { Ok(()) }
    }
}
