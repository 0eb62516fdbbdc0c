//! Functions with a stack of their own: one that stops where it asks for something, and goes on with the answer; and one
//! that works on what it is lent, and pauses now and then.

#![allow(unsafe_code)]

use std::ptr::NonNull;

use corosensei::stack::DefaultStack;
use corosensei::{CoroutineResult, Yielder};

/// Deep recursion of Lua and of its libraries fits; only what is used takes memory.
const STACK_BYTES: usize = 4 << 20;
/// Stacks that are kept: to make one costs more than most scripts do.
const STACKS_MAX: usize = 4;

/// Stacks for the next functions.
#[derive(Default)]
pub struct Stacks(Vec<DefaultStack>);

impl Stacks {
    /// `None`: there is no memory for one.
    fn take(&mut self) -> Option<DefaultStack> {
        self.0.pop().or_else(|| DefaultStack::new(STACK_BYTES).ok())
    }

    fn give(&mut self, stack: DefaultStack) {
        if self.0.len() < STACKS_MAX {
            self.0.push(stack);
        }
    }
}

/// What a running function asks through.
pub type Asks<Answer, Question> = Yielder<Answer, Question>;

pub struct Coroutine<Answer, Question, End> {
    /// Taken when it is over.
    running: Option<corosensei::Coroutine<Answer, Question, End, DefaultStack>>,
}

pub enum Step<Question, End> {
    Asks(Question),
    Ended(End),
}

// SAFETY: a function that has begun is resumed on the thread where it began only: cores, which have them, are moved to
// their threads before they run anything, and never again. One that has not begun is data that can be sent.
unsafe impl<Answer: Send, Question: Send, End: Send> Send for Coroutine<Answer, Question, End> {}

impl<Answer: 'static, Question: 'static, End: 'static> Coroutine<Answer, Question, End> {
    /// `None`: there is no memory for a stack.
    pub fn new(
        stacks: &mut Stacks,
        run: impl FnOnce(&Asks<Answer, Question>) -> End + Send + 'static,
    ) -> Option<Coroutine<Answer, Question, End>> {
        Some(Coroutine { running: Some(corosensei::Coroutine::with_stack(stacks.take()?, |asks, _| run(asks))) })
    }

    /// Runs up to the next question. The answer to none, the first, is dropped.
    pub fn resume(&mut self, answer: Answer, stacks: &mut Stacks) -> Step<Question, End> {
        let running = self.running.as_mut().expect("what is over is not resumed");
        match running.resume(answer) {
            CoroutineResult::Yield(question) => Step::Asks(question),
            CoroutineResult::Return(end) => {
                stacks.give(self.running.take().expect("it ran a moment ago").into_stack());
                Step::Ended(end)
            }
        }
    }
}

impl<Answer, Question, End> Drop for Coroutine<Answer, Question, End> {
    fn drop(&mut self) {
        // Where it stops half-way there is C on the stack, over which nothing unwinds. That happens when the server ends.
        std::mem::forget(self.running.take());
    }
}

/// A function that works on a `T` which it is lent whenever it goes on, and which is others' while it pauses.
pub struct Lending<T, End>(Coroutine<Place<T>, (), End>);

/// Where the lent value is, until the next pause.
struct Place<T>(NonNull<T>);

// SAFETY: it is handed to a function on the same thread, and means nothing after that function has paused.
unsafe impl<T> Send for Place<T> {}

/// The lent value, in the function's hands.
pub struct Lent<'a, T> {
    pauses: &'a Asks<Place<T>, ()>,
    place: NonNull<T>,
}

impl<T: 'static, End: Send + 'static> Lending<T, End> {
    /// `None`: there is no memory for a stack.
    pub fn new(
        stacks: &mut Stacks,
        run: impl FnOnce(&mut Lent<'_, T>) -> End + Send + 'static,
    ) -> Option<Lending<T, End>> {
        let stack = stacks.take()?;
        let running =
            corosensei::Coroutine::with_stack(stack, |pauses: &Asks<Place<T>, ()>, Place(place): Place<T>| {
                run(&mut Lent { pauses, place })
            });
        Some(Lending(Coroutine { running: Some(running) }))
    }

    /// Runs up to the next pause (`None`), or to the end. `stacks` finds the stacks in what is lent.
    pub fn go_on(&mut self, lent: &mut T, stacks: impl FnOnce(&mut T) -> &mut Stacks) -> Option<End> {
        let running = self.0.running.as_mut().expect("what is over is not resumed");
        match running.resume(Place(NonNull::from(&mut *lent))) {
            CoroutineResult::Yield(()) => None,
            CoroutineResult::Return(end) => {
                stacks(lent).give(self.0.running.take().expect("it ran a moment ago").into_stack());
                Some(end)
            }
        }
    }
}

impl<T> Lent<'_, T> {
    #[inline]
    pub fn get(&mut self) -> &mut T {
        // SAFETY: whoever let the function go on holds the value borrowed until it pauses or ends, and does not look at it
        // meanwhile; a pause takes `self` whole, so that nothing borrowed here outlasts it, and brings the new place.
        unsafe { self.place.as_mut() }
    }

    /// Gives the value back until the function goes on.
    pub fn pause(&mut self) {
        self.place = self.pauses.suspend(()).0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_and_goes_on_with_the_answers() {
        let stacks = &mut Stacks::default();
        let mut coroutine =
            Coroutine::new(stacks, |asks: &Asks<u32, &str>| asks.suspend("a") + asks.suspend("b")).unwrap();
        assert!(matches!(coroutine.resume(0, stacks), Step::Asks("a")));
        assert!(matches!(coroutine.resume(3, stacks), Step::Asks("b")));
        assert!(matches!(coroutine.resume(4, stacks), Step::Ended(7)));
        assert_eq!(stacks.0.len(), 1, "the stack is for the next");
    }

    #[test]
    fn what_is_lent_is_others_while_the_function_pauses() {
        struct World {
            stacks: Stacks,
            number: u32,
        }
        let mut world = World { stacks: Stacks::default(), number: 1 };
        let mut lending = Lending::new(&mut world.stacks, |world: &mut Lent<World>| {
            world.get().number += 1;
            world.pause();
            world.get().number *= 10;
            world.get().number
        })
        .unwrap();
        assert_eq!(lending.go_on(&mut world, |world| &mut world.stacks), None);
        assert_eq!(world.number, 2);
        world.number = 5;
        // It may have moved, too.
        let mut world = Box::new(world);
        assert_eq!(lending.go_on(&mut world, |world| &mut world.stacks), Some(50));
        assert_eq!((world.number, world.stacks.0.len()), (50, 1));
    }
}
