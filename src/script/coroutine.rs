//! A function with a stack of its own that stops where it asks for something, and goes on with the answer.

#![allow(unsafe_code)]

use corosensei::stack::DefaultStack;
use corosensei::{CoroutineResult, Yielder};

/// Deep recursion of Lua and of its libraries fits; only what is used takes memory.
const STACK_BYTES: usize = 4 << 20;

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
        run: impl FnOnce(&Asks<Answer, Question>) -> End + Send + 'static,
    ) -> Option<Coroutine<Answer, Question, End>> {
        let stack = DefaultStack::new(STACK_BYTES).ok()?;
        Some(Coroutine { running: Some(corosensei::Coroutine::with_stack(stack, |asks, _| run(asks))) })
    }

    /// Runs up to the next question. The answer to none, the first, is dropped.
    pub fn resume(&mut self, answer: Answer) -> Step<Question, End> {
        let running = self.running.as_mut().expect("what is over is not resumed");
        match running.resume(answer) {
            CoroutineResult::Yield(question) => Step::Asks(question),
            CoroutineResult::Return(end) => {
                self.running = None;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_and_goes_on_with_the_answers() {
        let mut coroutine = Coroutine::new(|asks: &Asks<u32, &str>| asks.suspend("a") + asks.suspend("b")).unwrap();
        assert!(matches!(coroutine.resume(0), Step::Asks("a")));
        assert!(matches!(coroutine.resume(3), Step::Asks("b")));
        assert!(matches!(coroutine.resume(4), Step::Ended(7)));
    }
}
