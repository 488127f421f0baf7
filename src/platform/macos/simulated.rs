//! A model of the Mach kernel, to run what is built on it on Linux: tasks with names for rights, ports with messages,
//! special ports inherited over `fork`, semaphores as shared counting words.
//!
//! Tasks are real processes. What the kernel would know is in memory that the first process to call maps, and all its
//! descendants share. A task's end is noticed when somebody looks. Names are handed out lowest first, so that those of a
//! parent and of its child clash as often as they can. It has no no-senders notifications, port sets, or user
//! references beyond a count.
//!
//! For tests, a process can be told to die, or to have a call fail, at the n-th call it makes from now. A real kernel's call
//! is one step, which a kill comes before or after: who kills does it `between_calls`, or while none of those has begun
//! (`calls_begun`).

use super::mach::{
    BOOTSTRAP, Code, MOST_RIGHTS, Mach, Message, NULL, Name, Result, Start, disposition, right,
};
use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::{Duration, Instant};

const TASKS: usize = 512;
const NAMES: usize = 1 << 18;
const OBJECTS: usize = 1 << 19;
const MESSAGES: usize = 256;

/// The model.
pub enum Simulated {}

/// What a task calls by one name: an object, with what rights.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Right {
    object: u32, // 0 is a dead name, if any right is there
    sends: u16,
    receive: bool,
    dead: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    Free = 0,
    Port,
    Semaphore,
    Task,
    Host,
    Clock,
}

/// What rights are to. It lives as long as anybody has one.
#[repr(C)]
struct Object {
    kind: Kind,
    /// The task that receives from the port, that the semaphore belongs to, or that this is.
    owner: Owner,
    rights: u32,
    /// A semaphore's value.
    count: AtomicU32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Owner {
    pid: u32,
    start: u64,
}

#[repr(C)]
struct Letter {
    used: bool,
    port: u32,
    number: u64,
    id: i32,
    count: usize,
    objects: [(u32, bool); MOST_RIGHTS], // true: the receive right
}

#[repr(C)]
struct Task {
    owner: Owner,
    /// No name below this index is free; none at or above `top` was ever used.
    free: u32,
    top: u32,
    bootstrap: u32,
    myself: u32,
    rights: [Right; NAMES],
}

#[repr(C)]
struct World {
    lock: libc::pthread_mutex_t,
    letters: u64,
    fresh: u32, // no object at or above was ever used
    freed: u32, // no object below is free
    letter: [Letter; MESSAGES],
    objects: [Object; OBJECTS],
    tasks: [Task; TASKS],
}

struct Shared(UnsafeCell<*mut World>);
// SAFETY: the pointer is written once; what it points to is guarded by the lock in it.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

static WORLD: OnceLock<Shared> = OnceLock::new();
/// This process's task, plus 1.
static MYSELF: AtomicU32 = AtomicU32::new(0);
/// The bootstrap port at the last fork, which the child gets.
static INHERITED: AtomicU32 = AtomicU32::new(0);
static LIBRARY_BOOTSTRAP: AtomicU32 = AtomicU32::new(0);
/// How many calls this process's threads are in the middle of. Those that wait do not count.
static INSIDE: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static DIE_AT: Cell<u32> = const { Cell::new(0) };
    static FAIL_AT: Cell<u32> = const { Cell::new(0) };
}

/// Has this process killed at this thread's `call`-th call from now, before it does anything; 0: never.
pub fn die_at(call: u32) {
    DIE_AT.set(call);
}

/// Has this thread's `call`-th call from now fail; 0: none. Calls that cannot fail do not count.
pub fn fail_at(call: u32) {
    FAIL_AT.set(call);
}

/// What is one step of the kernel's, until dropped.
struct Step;

impl Step {
    fn begin() -> Self {
        INSIDE.fetch_add(1, Relaxed);
        Step
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        INSIDE.fetch_sub(1, Relaxed);
        call_ends();
    }
}

/// Passed at the end of each call.
#[inline(never)]
pub extern "C" fn call_ends() {
    std::hint::black_box(());
}

/// Does `action` while no process is inside a call.
pub fn between_calls<T>(action: impl FnOnce() -> T) -> T {
    struct Between;
    impl Drop for Between {
        fn drop(&mut self) {
            unlock(); // also where `action` panicked
        }
    }
    lock();
    let _between = Between;
    action()
}

/// Where a process of this program has the number of calls its threads are inside of, for one who traces it.
pub fn calls_begun() -> *const u32 {
    INSIDE.as_ptr()
}

fn is_due(countdown: &Cell<u32>) -> bool {
    let left = countdown.get();
    countdown.set(left.saturating_sub(1));
    left == 1
}

/// Every call passes here first.
fn call_begins() -> Result<()> {
    if DIE_AT.with(is_due) {
        // SAFETY: kills this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
    if FAIL_AT.with(is_due) { Err(Code::FAILURE) } else { Ok(()) }
}

fn world() -> *mut World {
    let shared = WORLD.get_or_init(|| {
        // SAFETY: a new mapping; zeroes are a valid world but for the lock, which nobody uses before it is made.
        unsafe {
            let world: *mut World = libc::mmap(
                ptr::null_mut(),
                size_of::<World>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
            .cast();
            assert!(world.cast() != libc::MAP_FAILED, "no memory for the simulated kernel");
            let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
            libc::pthread_mutexattr_init(&mut attributes);
            libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(&raw mut (*world).lock, &attributes);
            (*world).fresh = 1; // object 0 is none
            (*world).freed = 1;
            libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child));
            Shared(UnsafeCell::new(world))
        }
    });
    // SAFETY: written before it was shared.
    unsafe { *shared.0.get() }
}

fn lock() {
    // SAFETY: initialised with the world.
    unsafe {
        let mutex = &raw mut (*world()).lock;
        // Not by sleeping: tests take whoever sleeps for one who waits for what is tested.
        loop {
            match libc::pthread_mutex_trylock(mutex) {
                0 => return,
                libc::EOWNERDEAD => {
                    libc::pthread_mutex_consistent(mutex);
                    return;
                }
                _ => libc::sched_yield(),
            };
        }
    }
}

fn unlock() {
    // SAFETY: as above; this thread has it.
    unsafe { libc::pthread_mutex_unlock(&raw mut (*world()).lock) };
}

extern "C" fn before_fork() {
    inside(|_, _| {}); // so that this process is a task
    lock(); // until the child is there, nobody sees it half made, and no other thread forks
    let me = MYSELF.load(Relaxed) as usize - 1;
    // SAFETY: the lock is held, so this is the only reference.
    let world = unsafe { &mut *world() };
    let object = world.tasks[me].bootstrap;
    world.keep(object);
    INHERITED.store(object, Relaxed);
}

extern "C" fn after_fork() {
    unlock();
}

extern "C" fn in_child() {
    MYSELF.store(0, Relaxed);
    INSIDE.store(0, Relaxed);
    die_at(0);
    fail_at(0);
}

/// Runs `action` in the kernel, for this process's task.
fn inside<T>(action: impl FnOnce(&mut World, usize) -> T) -> T {
    let _step = Step::begin();
    lock();
    // SAFETY: the lock is held, so this is the only reference.
    let world = unsafe { &mut *world() };
    let me = match MYSELF.load(Relaxed) {
        0 => world.introduce(),
        known => known as usize - 1,
    };
    let result = action(world, me);
    unlock();
    result
}

/// As `inside`, for a call that can fail.
fn call<T>(action: impl FnOnce(&mut World, usize) -> Result<T>) -> Result<T> {
    call_begins()?;
    inside(action)
}

fn name_at(index: usize) -> Name {
    (index as Name) << 8 | 3
}

fn myself() -> Owner {
    let pid = std::process::id();
    let Start::At(start) = Simulated::start_of(pid) else { return Owner { pid, start: 0 } };
    Owner { pid, start }
}

impl Owner {
    fn is_alive(self) -> bool {
        self.pid == 0 || Simulated::start_of(self.pid) == Start::At(self.start)
    }
}

impl World {
    /// A task for this process.
    fn introduce(&mut self) -> usize {
        let me = match (0..TASKS).find(|&task| self.tasks[task].owner.pid == 0) {
            Some(task) => task,
            None => {
                (0..TASKS).for_each(|task| self.bury(task));
                (0..TASKS).find(|&task| self.tasks[task].owner.pid == 0).unwrap_or(TASKS - 1)
            }
        };
        let owner = myself();
        let inherited = INHERITED.load(Relaxed); // and counted
        let bootstrap = if inherited == 0 {
            let launchd = Owner { pid: 0, start: 0 }; // who never dies
            let port = self.create(Kind::Port, launchd);
            self.keep(port);
            port
        } else {
            inherited
        };
        let object = self.create(Kind::Task, owner);
        let task = &mut self.tasks[me];
        (task.owner, task.free, task.top, task.bootstrap, task.myself) = (owner, 1, 1, bootstrap, object);
        MYSELF.store(me as u32 + 1, Relaxed);
        self.keep(object); // as a special port
        self.keep(object); // by its name
        let _ = self.give_send(me, object);
        if inherited == 0 {
            self.keep(bootstrap);
            let name = self.give_send(me, bootstrap);
            LIBRARY_BOOTSTRAP.store(name.unwrap_or(NULL), Relaxed);
        }
        me
    }

    /// Takes everything from a task whose process is gone.
    fn bury(&mut self, task: usize) {
        if self.tasks[task].owner.pid == 0 || self.tasks[task].owner.is_alive() {
            return;
        }
        for index in 1..self.tasks[task].top as usize {
            self.strike(task, index);
        }
        let (bootstrap, object) = (self.tasks[task].bootstrap, self.tasks[task].myself);
        self.drop_right(bootstrap);
        self.drop_right(object);
        self.tasks[task].owner.pid = 0;
    }

    fn create(&mut self, kind: Kind, owner: Owner) -> u32 {
        let freed = (self.freed..self.fresh).find(|&object| self.objects[object as usize].kind == Kind::Free);
        let object = freed.unwrap_or(self.fresh);
        self.fresh = self.fresh.max(object + 1);
        self.freed = object + 1;
        let new = &mut self.objects[object as usize];
        (new.kind, new.owner, new.rights) = (kind, owner, 0);
        new.count.store(0, Relaxed);
        object
    }

    fn keep(&mut self, object: u32) {
        self.objects[object as usize].rights += u32::from(object != 0);
    }

    /// Ends one right to `object`.
    fn drop_right(&mut self, object: u32) {
        if object == 0 {
            return;
        }
        self.objects[object as usize].rights -= 1;
        if self.objects[object as usize].rights == 0 {
            for at in 0..MESSAGES {
                if self.letter[at].used && self.letter[at].port == object {
                    self.letter[at].used = false;
                    let (objects, count) = (self.letter[at].objects, self.letter[at].count);
                    objects[..count].iter().for_each(|right| self.drop_right(right.0));
                }
            }
            self.objects[object as usize].kind = Kind::Free;
            self.freed = self.freed.min(object);
        }
    }

    fn is_dead(&self, object: u32) -> bool {
        object == 0 || !self.objects[object as usize].owner.is_alive()
    }

    /// Gives `task` a send right that is counted already, under the name it has for the object, or the lowest free one.
    fn give_send(&mut self, task: usize, object: u32) -> Result<Name> {
        self.give(task, object, |right| right.sends += 1)
    }

    fn give(&mut self, task: usize, object: u32, add: impl FnOnce(&mut Right)) -> Result<Name> {
        let known = &self.tasks[task];
        let top = known.top as usize;
        // Semaphores have one name only, and are many: no need to look for another.
        let same = if self.objects[object as usize].kind == Kind::Semaphore {
            None
        } else {
            (1..top).find(|&index| known.rights[index].object == object)
        };
        let index = same
            .or_else(|| (known.free as usize..top).find(|&index| known.rights[index].is_free()))
            .unwrap_or(top);
        if index >= NAMES {
            return Err(Code::NO_SPACE);
        }
        let task = &mut self.tasks[task];
        if same.is_none() {
            task.free = index as u32 + 1;
            task.top = task.top.max(index as u32 + 1);
        }
        task.rights[index].object = object;
        add(&mut task.rights[index]);
        Ok(name_at(index))
    }

    /// What `task` calls `name`.
    fn right(&mut self, task: usize, name: Name) -> Result<&mut Right> {
        let index = (name >> 8) as usize;
        match self.tasks[task].rights.get_mut(index) {
            Some(right) if name == name_at(index) && !right.is_free() => Ok(right),
            _ => Err(Code::INVALID_NAME),
        }
    }

    /// The object that `task` has a send right to by that name.
    fn object(&mut self, task: usize, name: Name) -> Result<u32> {
        let right = *self.right(task, name)?;
        if right.object == 0 { Err(Code::INVALID_RIGHT) } else { Ok(right.object) }
    }

    /// The task that this process calls `name`.
    fn task(&mut self, me: usize, name: Name) -> Result<usize> {
        let object = self.object(me, name).map_err(|_| Code::INVALID_TASK)?;
        if object == self.tasks[me].myself {
            return Ok(me);
        }
        let owner = self.objects[object as usize].owner;
        if self.objects[object as usize].kind != Kind::Task || !owner.is_alive() {
            return Err(Code::INVALID_TASK);
        }
        (0..TASKS).find(|&task| self.tasks[task].owner == owner).ok_or(Code::INVALID_TASK)
    }

    /// Ends all that `task` has by the name at `index`.
    fn strike(&mut self, task: usize, index: usize) {
        let right = std::mem::take(&mut self.tasks[task].rights[index]);
        if right.is_free() {
            return;
        }
        self.tasks[task].free = self.tasks[task].free.min(index as u32);
        if right.receive {
            self.objects[right.object as usize].owner = Owner { pid: u32::MAX, start: 0 }; // nobody
        }
        for _ in 0..right.sends + u16::from(right.receive) {
            self.drop_right(right.object);
        }
    }

    /// A right of this process's for somebody else, by `disposition`: the object, and whether it is the receive right.
    fn copy_in(&mut self, me: usize, name: Name, how: u32) -> Result<(u32, bool)> {
        if name == NULL {
            return Ok((0, false));
        }
        let right = *self.right(me, name)?;
        let fits = match how {
            disposition::COPY_SEND | disposition::MOVE_SEND => right.sends > 0,
            disposition::MAKE_SEND | disposition::MOVE_RECEIVE => right.receive,
            _ => false,
        };
        if !fits {
            return Err(Code::INVALID_RIGHT);
        }
        self.keep(right.object);
        match how {
            disposition::MOVE_SEND => self.deallocate(me, name)?,
            disposition::MOVE_RECEIVE => {
                self.right(me, name)?.receive = false;
                self.drop_right(right.object);
                self.tidy(me, name);
            }
            _ => {}
        }
        Ok((right.object, how == disposition::MOVE_RECEIVE))
    }

    fn deallocate(&mut self, task: usize, name: Name) -> Result<()> {
        let right = self.right(task, name)?;
        if right.dead {
            *right = Right::default();
            self.tidy(task, name);
            return Ok(());
        }
        if right.sends == 0 {
            return Err(Code::INVALID_RIGHT);
        }
        right.sends -= 1;
        let object = right.object;
        self.drop_right(object);
        self.tidy(task, name);
        Ok(())
    }

    fn tidy(&mut self, task: usize, name: Name) {
        let index = (name >> 8) as usize;
        if self.tasks[task].rights[index].is_free() {
            self.tasks[task].rights[index] = Right::default();
            self.tasks[task].free = self.tasks[task].free.min(index as u32);
        }
    }
}

impl Right {
    fn is_free(self) -> bool {
        self.sends == 0 && !self.receive && !self.dead
    }
}

/// The semaphore this process calls `name`. It stays while the process has the right.
fn semaphore(name: Name) -> Result<&'static Object> {
    let _step = Step::begin();
    call(|world, me| {
        let object = world.object(me, name).map_err(|_| Code::INVALID_NAME)?;
        let object = &raw const world.objects[object as usize];
        // SAFETY: objects never move, and the world is never unmapped.
        let object = unsafe { &*object };
        if object.kind == Kind::Semaphore { Ok(object) } else { Err(Code::INVALID_ARGUMENT) }
    })
}

/// Waits on a shared word while it is 0. False if a signal came.
fn sleep_on(word: &AtomicU32, time: Duration) -> bool {
    let time = libc::timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    // SAFETY: a shared futex wait on a mapped word, with a valid time.
    let result =
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, 0, &raw const time) };
    result == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR)
}

fn wake_all(word: &AtomicU32, how_many: i32) {
    // SAFETY: a wake uses the address as a key only.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, how_many) };
}

/// How often a waiter looks whether the one it waits for lives: the kernel would tell at once.
const LOOK: Duration = Duration::from_millis(20);

fn wait_on(name: Name, limit: Option<Duration>) -> Result<()> {
    let semaphore = semaphore(name)?;
    let mut until = None; // reckoned from the moment it sleeps
    loop {
        if semaphore.count.fetch_update(Acquire, Relaxed, |count| count.checked_sub(1)).is_ok() {
            return Ok(());
        }
        if !semaphore.owner.is_alive() {
            return Err(Code::TERMINATED);
        }
        let now = Instant::now();
        let until = *until.get_or_insert(limit.and_then(|limit| now.checked_add(limit)));
        let left = until.map_or(LOOK, |until| until.saturating_duration_since(now));
        if left.is_zero() {
            return Err(Code::OPERATION_TIMED_OUT);
        }
        if !sleep_on(&semaphore.count, left.min(LOOK)) {
            return Err(Code::ABORTED);
        }
    }
}

impl Mach for Simulated {
    fn task_self() -> Name {
        inside(|world, me| {
            name_at(
                (1..NAMES)
                    .find(|&index| world.tasks[me].rights[index].object == world.tasks[me].myself)
                    .unwrap_or(0),
            )
        })
    }

    fn semaphore_create(task: Name, _policy: i32, value: i32) -> Result<Name> {
        call(|world, me| {
            let task = world.task(me, task)?;
            let owner = world.tasks[task].owner;
            let object = world.create(Kind::Semaphore, owner);
            world.objects[object as usize].count.store(value as u32, Relaxed);
            world.keep(object);
            world.give_send(me, object)
        })
    }

    fn semaphore_destroy(task: Name, semaphore: Name) -> Result<()> {
        call(|world, me| {
            let task = world.task(me, task)?;
            let object = world.object(me, semaphore)?;
            let found = &mut world.objects[object as usize];
            if found.kind != Kind::Semaphore || found.owner != world.tasks[task].owner {
                return Err(Code::INVALID_ARGUMENT);
            }
            found.owner = Owner { pid: u32::MAX, start: 0 }; // nobody: whoever waits is told
            wake_all(&found.count, i32::MAX);
            world.deallocate(me, semaphore)
        })
    }

    fn semaphore_signal(name: Name) -> Result<()> {
        let _step = Step::begin();
        let semaphore = semaphore(name)?;
        if !semaphore.owner.is_alive() {
            return Err(Code::TERMINATED);
        }
        semaphore.count.fetch_add(1, Release);
        wake_all(&semaphore.count, 1);
        Ok(())
    }

    /// Not exact: it lets those pass who come within a moment too.
    fn semaphore_signal_all(name: Name) -> Result<()> {
        let semaphore = semaphore(name)?;
        semaphore.count.fetch_add(64, Release);
        wake_all(&semaphore.count, i32::MAX);
        std::thread::sleep(Duration::from_millis(5));
        semaphore.count.store(0, Relaxed);
        Ok(())
    }

    fn semaphore_wait(semaphore: Name) -> Result<()> {
        wait_on(semaphore, None)
    }

    fn semaphore_timedwait(semaphore: Name, timeout: Duration) -> Result<()> {
        wait_on(semaphore, Some(timeout))
    }

    fn port_allocate(task: Name, kind: u32) -> Result<Name> {
        call(|world, me| {
            let task = world.task(me, task)?;
            match kind {
                right::RECEIVE => {
                    let owner = world.tasks[task].owner;
                    let object = world.create(Kind::Port, owner);
                    world.keep(object);
                    world.give(task, object, |right| right.receive = true)
                }
                right::DEAD_NAME => world.give(task, 0, |right| right.dead = true),
                _ => Err(Code::INVALID_ARGUMENT),
            }
        })
    }

    fn port_allocate_name(task: Name, kind: u32, name: Name) -> Result<()> {
        call(|world, me| {
            let task = world.task(me, task)?;
            let index = (name >> 8) as usize;
            if kind != right::DEAD_NAME || index == 0 || index >= NAMES || name != name_at(index) {
                return Err(Code::INVALID_ARGUMENT);
            }
            if !world.tasks[task].rights[index].is_free() {
                return Err(Code::NAME_EXISTS);
            }
            world.tasks[task].rights[index].dead = true;
            world.tasks[task].top = world.tasks[task].top.max(index as u32 + 1);
            Ok(())
        })
    }

    fn port_destroy(task: Name, name: Name) -> Result<()> {
        call(|world, me| {
            let task = world.task(me, task)?;
            world.right(task, name)?;
            world.strike(task, (name >> 8) as usize);
            Ok(())
        })
    }

    fn port_deallocate(task: Name, name: Name) -> Result<()> {
        call(|world, me| {
            let task = world.task(me, task)?;
            world.deallocate(task, name)
        })
    }

    fn port_insert_right(task: Name, name: Name, port: Name, how: u32) -> Result<()> {
        call(|world, me| {
            let task = world.task(me, task)?;
            let index = (name >> 8) as usize;
            if index == 0 || index >= NAMES || name != name_at(index) {
                return Err(Code::INVALID_ARGUMENT);
            }
            let object = world.object(me, port)?;
            let there = world.tasks[task].rights[index];
            if !there.is_free() && there.object != object {
                return Err(Code::NAME_EXISTS);
            }
            if world.is_dead(object) {
                return Err(Code::INVALID_RIGHT);
            }
            let elsewhere = world.objects[object as usize].kind != Kind::Semaphore
                && (1..world.tasks[task].top as usize)
                    .any(|at| at != index && world.tasks[task].rights[at].object == object);
            if elsewhere {
                return Err(Code::RIGHT_EXISTS);
            }
            let (_, receive) = world.copy_in(me, port, how)?;
            if receive {
                return Err(Code::INVALID_ARGUMENT);
            }
            let task = &mut world.tasks[task];
            task.rights[index].object = object;
            task.rights[index].sends += 1;
            task.top = task.top.max(index as u32 + 1);
            Ok(())
        })
    }

    fn task_get_special_port(task: Name, which: i32) -> Result<Name> {
        call(|world, me| {
            let task = world.task(me, task)?;
            let object = match which {
                BOOTSTRAP => world.tasks[task].bootstrap,
                1 => world.tasks[task].myself,
                _ => return Err(Code::INVALID_ARGUMENT),
            };
            if object == 0 {
                return Ok(NULL);
            }
            world.keep(object);
            world.give_send(me, object)
        })
    }

    fn task_set_special_port(task: Name, which: i32, port: Name) -> Result<()> {
        call(|world, me| {
            let task = world.task(me, task)?;
            if which != BOOTSTRAP {
                return Err(Code::INVALID_ARGUMENT);
            }
            let object = if port == NULL { 0 } else { world.copy_in(me, port, disposition::COPY_SEND)?.0 };
            let old = std::mem::replace(&mut world.tasks[task].bootstrap, object);
            world.drop_right(old);
            Ok(())
        })
    }

    fn bootstrap_port() -> Name {
        inside(|_, _| LIBRARY_BOOTSTRAP.load(Relaxed))
    }

    fn set_bootstrap_port(port: Name) {
        LIBRARY_BOOTSTRAP.store(port, Relaxed);
    }

    fn send(to: Name, how: u32, id: i32, rights: &[(Name, u32)], _timeout: Option<Duration>) -> Result<()> {
        call(|world, me| {
            let port = world.object(me, to).map_err(|_| Code::SEND_INVALID_DEST)?;
            if how == disposition::MAKE_SEND && !world.right(me, to)?.receive {
                return Err(Code::SEND_INVALID_DEST);
            }
            if world.objects[port as usize].kind != Kind::Port
                || world.is_dead(port)
                || rights.len() > MOST_RIGHTS
            {
                return Err(Code::SEND_INVALID_DEST);
            }
            let room = |world: &World| (0..MESSAGES).find(|&at| !world.letter[at].used);
            if room(world).is_none() {
                (0..TASKS).for_each(|task| world.bury(task)); // letters to the dead
            }
            let at = room(world).ok_or(Code::NO_SPACE)?;
            let mut objects = [(0, false); MOST_RIGHTS];
            for (object, (name, how)) in objects.iter_mut().zip(rights) {
                *object = world.copy_in(me, *name, *how)?;
            }
            world.letters += 1;
            let number = world.letters;
            world.letter[at] = Letter { used: true, port, number, id, count: rights.len(), objects };
            Ok(())
        })
    }

    fn receive(port: Name, timeout: Option<Duration>) -> Result<Message> {
        call_begins()?;
        let until = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let message = inside(|world, me| {
                let right = *world.right(me, port)?;
                if !right.receive {
                    return Err(Code::INVALID_RIGHT);
                }
                let waiting = (0..MESSAGES)
                    .filter(|&at| world.letter[at].used && world.letter[at].port == right.object);
                let Some(at) = waiting.min_by_key(|&at| world.letter[at].number) else { return Ok(None) };
                world.letter[at].used = false;
                let (id, count, objects) =
                    (world.letter[at].id, world.letter[at].count, world.letter[at].objects);
                let mut message = Message { id, count, ..Message::default() };
                for (name, (object, receive)) in message.rights.iter_mut().zip(&objects[..count]) {
                    *name = match (*object, *receive) {
                        (0, _) => NULL,
                        (object, true) => {
                            world.objects[object as usize].owner = world.tasks[me].owner;
                            world.give(me, object, |right| right.receive = true)?
                        }
                        (object, false) => world.give_send(me, object)?,
                    };
                }
                Ok(Some(message))
            })?;
            if let Some(message) = message {
                return Ok(message);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(Code::RECEIVE_TIMED_OUT);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn host_self() -> Name {
        inside(|world, me| world.service(me, Kind::Host)).unwrap_or(NULL)
    }

    fn host_get_clock_service(_host: Name) -> Result<Name> {
        call(|world, me| world.service(me, Kind::Clock))
    }

    fn clock_get_time(_clock: Name) -> Result<Duration> {
        call_begins()?;
        Ok(crate::deadline::now())
    }

    fn message(code: Code) -> String {
        let text = match code {
            Code(1) => "(os/kern) invalid address",
            Code::NO_SPACE => "(os/kern) no space available",
            Code::INVALID_ARGUMENT => "(os/kern) invalid argument",
            Code::FAILURE => "(os/kern) failure",
            Code::ABORTED => "(os/kern) operation aborted",
            Code::INVALID_NAME => "(os/kern) invalid name",
            Code::OPERATION_TIMED_OUT => "(os/kern) operation timed out",
            _ => "unknown error code",
        };
        text.to_owned()
    }

    fn start_of(pid: u32) -> Start {
        let _step = Step::begin();
        match stat(pid) {
            Some(stat) if !matches!(stat.state, 'Z' | 'X') => Start::At(stat.start),
            _ => Start::Gone,
        }
    }

    fn current_thread() -> u64 {
        let _step = Step::begin();
        // SAFETY: no precondition.
        let thread = unsafe { libc::syscall(libc::SYS_gettid) } as u64;
        stat(std::process::id()).map_or(0, |stat| stat.image << 32) | thread
    }

    fn has_thread(pid: u32, thread: u64) -> bool {
        let _step = Step::begin();
        stat(pid).is_some_and(|stat| stat.image << 32 == thread & !0xffff_ffff)
            && std::path::Path::new(&format!("/proc/{pid}/task/{}", thread as u32)).exists()
    }
}

impl World {
    fn service(&mut self, me: usize, kind: Kind) -> Result<Name> {
        let object = self.create(kind, Owner { pid: 0, start: 0 });
        self.keep(object);
        self.give_send(me, object)
    }
}

struct Stat {
    state: char,
    start: u64,
    /// Where the program's stack begins: another after an exec.
    image: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    let image = fields.nth(5)?.parse::<u64>().ok()? >> 4;
    Some(Stat { state, start, image })
}
