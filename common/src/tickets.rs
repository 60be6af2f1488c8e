//! When to stop.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How many more datagrams or connections a server receives: the `--count` of all its workers.
///
/// A worker takes a ticket *before* it receives and leaves when there is none, so exactly that many
/// are received, all of them are finished, and no worker has to be woken up to go home.
///
/// # Examples
///
/// ```
/// let tickets = common::Tickets::new(Some(2));
/// assert!(tickets.take());
/// assert!(tickets.take());
/// assert!(!tickets.take());
/// assert!(common::Tickets::new(None).take());
/// ```
#[derive(Debug)]
pub struct Tickets(Option<AtomicUsize>);

impl Tickets {
    /// Makes so many tickets; `None`: there is always one more.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(!common::Tickets::new(Some(0)).take());
    /// ```
    pub fn new(count: Option<usize>) -> Tickets {
        Tickets(count.map(AtomicUsize::new))
    }

    /// Takes one, if there is one.
    ///
    /// # Examples
    ///
    /// ```
    /// let tickets = common::Tickets::new(Some(3));
    /// let mut served = 0;
    /// while tickets.take() {
    ///     served += 1;
    /// }
    /// assert_eq!(served, 3);
    /// ```
    pub fn take(&self) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        self.0.as_ref().is_none_or(|left| left.fetch_update(Relaxed, Relaxed, one_less).is_ok())
    }
}
