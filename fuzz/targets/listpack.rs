//! Any block is a listpack or is refused; one that is can be walked both ways and edited like a sequence of texts.
//!
//! Input: how long the block is in two bytes, the block, then operations: one byte for what to do, one for where, one
//! for the length of the text that follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peristyle::data::listpack::{At, Element, Listpack};

fn forward(listpack: &Listpack) -> Vec<Vec<u8>> {
    listpack.iter().map(Element::to_vec).collect()
}

fn backward(listpack: &Listpack) -> Vec<Vec<u8>> {
    let places = std::iter::successors(listpack.last(), |&at| listpack.previous(at));
    places.map(|at| listpack.get(at).to_vec()).collect()
}

fuzz_target!(|input: &[u8]| {
    let Some((&len, rest)) = input.split_first_chunk() else { return };
    let (block, mut operations) = rest.split_at(usize::from(u16::from_le_bytes(len)).min(rest.len()));
    let Some(mut listpack) = Listpack::from_bytes(block.to_vec()) else { return };
    let mut model = forward(&listpack);
    while let [what, place, len, rest @ ..] = operations {
        let (text, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        operations = rest;
        let index = if model.is_empty() { 0 } else { usize::from(*place) % model.len() };
        let at: Option<At> = listpack.at_index(index as i64);
        assert_eq!(at.is_some(), index < model.len());
        match (what % 6, at) {
            (0, _) | (_, None) => {
                listpack.push(text);
                model.push(text.to_vec());
            }
            (1, _) => {
                listpack.push_front(text);
                model.insert(0, text.to_vec());
            }
            (2, Some(at)) => {
                listpack.insert_before(at, text);
                model.insert(index, text.to_vec());
            }
            (3, Some(at)) => {
                let new = listpack.insert_after(at, text);
                assert_eq!(listpack.get(new).to_vec(), text);
                model.insert(index + 1, text.to_vec());
            }
            (4, Some(at)) => {
                listpack.replace(at, text);
                model[index] = text.to_vec();
            }
            (_, Some(at)) => {
                let count = text.len().min(model.len() - index);
                let next = listpack.remove_some(at, text.len());
                model.drain(index..index + count);
                assert_eq!(next.map(|at| listpack.get(at).to_vec()).as_ref(), model.get(index));
            }
        }
        assert_eq!(listpack.len(), model.len());
    }
    assert_eq!(forward(&listpack), model);
    model.reverse();
    assert_eq!(backward(&listpack), model);
    assert_eq!(Listpack::from_bytes(listpack.bytes().to_vec()).as_ref(), Some(&listpack), "still well formed");
});
