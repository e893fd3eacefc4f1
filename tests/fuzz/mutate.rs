//! Makes strange inputs of good ones: bytes flipped, put in, taken out and doubled, halves of two joined, numbers that
//! no field is wide enough for, JSON with a key twice or a thousand brackets deep.

use windlass::disk::sim::Dice;

/// Longest input; what grows beyond is cut.
const BYTES_MAX: usize = 256 * 1024;

/// What parsers stumble over.
const NASTY: &[&[u8]] = &[
    b"",
    b"0",
    b"-1",
    b"-0",
    b"1e999",
    b"1.5",
    b"1e-400",
    b"18446744073709551615",
    b"18446744073709551616",
    b"9223372036854775808",
    b"4294967296",
    b"2147483648",
    b"99999999999999999999999999999999999999999",
    b"NaN",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"\"\"",
    b"\"\\ud800\"",
    b"\"\\u0000\"",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xf0\x9f\xa6\x80",
    b"%00",
    b"%2f",
    b"%",
    b"%zz",
    b"..",
    b"/",
    b"//",
    b"?",
    b"&",
    b"=",
    b"#",
    b"\r\n",
    b"\n",
    b"\0",
    b"\\",
    b"'",
    b"\"",
    b",",
    b":",
    b"*",
    b"9999-12-31T23:59:60Z",
    b"1969-12-31T23:59:59Z",
    b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"1ns",
    b"999999999 days",
];

fn below(dice: &mut Dice, bound: usize) -> usize {
    usize::try_from(dice.below(bound as u64)).unwrap_or_default()
}

/// A stretch of `bytes`, at most `longest` long.
fn stretch(dice: &mut Dice, bytes: &[u8], longest: usize) -> (usize, usize) {
    let from = below(dice, bytes.len() + 1);
    let length = below(dice, longest.min(bytes.len() - from) + 1);
    (from, from + length)
}

/// The digits around a random place, if there are any behind it.
fn number(dice: &mut Dice, bytes: &[u8]) -> Option<(usize, usize)> {
    let start = below(dice, bytes.len() + 1);
    let from = start + bytes[start..].iter().position(u8::is_ascii_digit)?;
    let length = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    Some((from, from + length))
}

/// `"key": value,` of an object, as far as a plain look tells.
fn member(dice: &mut Dice, bytes: &[u8]) -> Option<(usize, usize)> {
    let start = below(dice, bytes.len() + 1);
    let from = start + bytes[start..].iter().position(|byte| *byte == b'{')? + 1;
    let length = bytes[from..].iter().position(|byte| b",}".contains(byte))?;
    (length > 0).then_some((from, from + length))
}

/// One to six changes to `bytes`; `other` is a good input too, to take parts of. Of a request mostly the address or
/// the body is changed, so that it remains one.
pub fn mutated(dice: &mut Dice, mut bytes: Vec<u8>, other: &[u8]) -> Vec<u8> {
    let place = |byte: u8| memchr::memchr(byte, &bytes);
    if let (Some(body), Some(from), Some(to)) = (memchr::memmem::find(&bytes, b"\n\n"), place(b' '), place(b'\n'))
        && from < to
    {
        let (from, to) = match dice.below(4) {
            0 => (from + 1, to),
            1 => (0, bytes.len()),
            _ if body + 2 < bytes.len() => (body + 2, bytes.len()),
            _ => (from + 1, to),
        };
        let part = changed(dice, bytes[from..to].to_vec(), other);
        bytes.splice(from..to, part);
        return bytes;
    }
    changed(dice, bytes, other)
}

fn changed(dice: &mut Dice, mut bytes: Vec<u8>, other: &[u8]) -> Vec<u8> {
    for _ in 0..=below(dice, 6) {
        change(dice, &mut bytes, other);
        bytes.truncate(BYTES_MAX);
    }
    bytes
}

fn change(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8]) {
    match dice.below(12) {
        0 | 1 if !bytes.is_empty() => {
            let at = below(dice, bytes.len());
            bytes[at] ^= 1 << dice.below(8);
        }
        2 if !bytes.is_empty() => {
            let at = below(dice, bytes.len());
            bytes[at] = dice.roll() as u8;
        }
        3 => {
            let (from, to) = stretch(dice, bytes, 16);
            bytes.drain(from..to);
        }
        4 => {
            let (from, to) = stretch(dice, bytes, 64);
            let part = bytes[from..to].to_vec();
            let at = below(dice, bytes.len() + 1);
            bytes.splice(at..at, part);
        }
        5 => {
            let (from, to) = stretch(dice, other, 256);
            let (begin, end) = stretch(dice, bytes, 32);
            bytes.splice(begin..end, other[from..to].iter().copied());
        }
        6 => {
            let nasty = NASTY[below(dice, NASTY.len())];
            let (from, to) = number(dice, bytes).unwrap_or_else(|| stretch(dice, bytes, 4));
            bytes.splice(from..to, nasty.iter().copied());
        }
        7 => {
            let nasty = NASTY[below(dice, NASTY.len())];
            let at = below(dice, bytes.len() + 1);
            bytes.splice(at..at, nasty.iter().copied());
        }
        8 => {
            if let Some((from, to)) = member(dice, bytes) {
                let twice: Vec<u8> = bytes[from..to].iter().copied().chain([b',']).collect();
                bytes.splice(from..from, twice);
            }
        }
        9 if dice.one_in(8) => {
            let open = [&b"["[..], b"{\"a\":", b"\"", b"a", b" "][below(dice, 5)];
            let deep = open.repeat(1 << dice.below(14));
            let at = below(dice, bytes.len() + 1);
            bytes.splice(at..at, deep);
        }
        10 if dice.one_in(4) => bytes.truncate(below(dice, bytes.len() + 1)),
        11 if dice.one_in(16) => *bytes = (0..below(dice, 200)).map(|_| dice.roll() as u8).collect(),
        _ => {}
    }
}
