//! A thread beside flush: orders in, what came of them out, one after the other; whoever waits for that is woken.
//! Owns: the thread, what its orders work on. Called by: [`super::helpers`]. Runs on: the CPU of the thread that made it,
//! unless it is told others. Ends when it is dropped and its orders are done.
//! Full: orders are bounded by what they carry: buffers of the writer, segments, one checkpoint at a time.
use super::{disk::Done, memory::Memory};
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    task::{Context, Poll, Waker},
    thread::JoinHandle,
};

type Order<S> = Box<dyn FnOnce(&mut S) -> Option<Done<Memory>> + Send>;

/// See the module. Its orders work on an `S`.
#[derive(Debug)]
pub(super) struct Worker<S> {
    to: Option<Sender<Order<S>>>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Send + 'static> Worker<S> {
    /// Starts the thread.
    pub(super) fn start(name: &str, mut state: S, desk: &Desk) -> io::Result<Worker<S>> {
        let (to, orders) = channel::<Order<S>>();
        let (results, bell) = (desk.results.clone(), desk.bell.clone());
        let work = move || {
            for order in orders {
                let Some(done) = order(&mut state) else { continue };
                bell.0.lying.fetch_add(1, Ordering::SeqCst);
                if results.send(done).is_err() {
                    return;
                }
                bell.ring();
            }
        };
        let thread = std::thread::Builder::new().name(name.into()).spawn(work)?;
        Ok(Worker { to: Some(to), thread: Some(thread) })
    }

    /// Begins an order, behind those before it.
    pub(super) fn submit(&self, order: impl FnOnce(&mut S) -> Option<Done<Memory>> + Send + 'static) {
        // The thread ends after its receiver only.
        let _ = self.to.as_ref().map(|to| to.send(Box::new(order)));
    }
}

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        self.to = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Where workers leave what came of their orders.
#[derive(Debug)]
pub(super) struct Desk {
    results: Sender<Done<Memory>>,
    from: Receiver<Done<Memory>>,
    bell: Bell,
}

impl Desk {
    pub(super) fn new() -> Desk {
        let (results, from) = channel();
        Desk { results, from, bell: Bell::default() }
    }

    /// Something that is over.
    pub(super) fn take(&self) -> Option<Done<Memory>> {
        let done = self.from.try_recv().ok()?;
        self.bell.0.lying.fetch_sub(1, Ordering::SeqCst);
        Some(done)
    }

    /// To wait for it.
    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }
}

/// Wakes a task when something lies on the desk.
#[derive(Clone, Debug, Default)]
pub(super) struct Bell(Arc<Ring>);

#[derive(Debug, Default)]
struct Ring {
    /// What was left and not taken; for a moment one more than there is, never fewer.
    lying: AtomicUsize,
    waiting: Mutex<Option<Waker>>,
}

impl Bell {
    fn ring(&self) {
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }

    /// Ready when something lies there; else the task is woken when it does.
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        // The waker is in its place before the last look: what is left in between finds it.
        *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        match self.0.lying.load(Ordering::SeqCst) {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}
