//! Programs of the BSD Packet Filter in its classic form: what libpcap makes of
//! the filter language of tcpdump ("The BSD Packet Filter", Usenix
//! Winter 1993; `pcap-filter(7)`).
//!
//! A program comes from outside, so it is [checked](Program::new) once: it only
//! jumps forwards and within itself, and its last instruction returns. So each
//! run ends after as many steps as it has instructions. A load from beyond the
//! end of the packet, or a division by 0, ends it with "no", as in libpcap.

use std::{num::ParseIntError, str::FromStr};

use serde::{Deserialize, Serialize};

/// Instructions of a program at most: what a worker does for each packet stays
/// bounded.
pub const INSTRUCTIONS_MAX: usize = 512;

/// An instruction as `struct bpf_insn` of `pcap/bpf.h` has it: code, jump if
/// true, jump if false, and the constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction(pub u16, pub u8, pub u8, pub u32);

impl FromStr for Instruction {
    type Err = InstructionError;

    /// Reads the four numbers in decimal, as the crate `pcap` writes them.
    fn from_str(text: &str) -> Result<Self, InstructionError> {
        let mut fields = text.split(' ');
        let mut next = || fields.next().ok_or(InstructionError);
        let instruction = Self(
            next()?.parse()?,
            next()?.parse()?,
            next()?.parse()?,
            next()?.parse()?,
        );
        match fields.next() {
            None => Ok(instruction),
            Some(_) => Err(InstructionError),
        }
    }
}

/// It is not four numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an instruction of a filter program is four numbers")]
pub struct InstructionError;

impl From<ParseIntError> for InstructionError {
    fn from(_: ParseIntError) -> Self {
        Self
    }
}

/// A program that is safe to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Instruction>", into = "Vec<Instruction>")]
pub struct Program {
    source: Vec<Instruction>,
    steps: Vec<Step>,
}

/// Why a program is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// It is empty, or longer than [`INSTRUCTIONS_MAX`].
    #[error("a filter program has 1 to {INSTRUCTIONS_MAX} instructions, and this one {0}")]
    Len(usize),
    /// An instruction is unknown, or its constant is out of range.
    #[error("the filter program cannot be run: instruction {index} has the code {code:#06x}")]
    Unknown {
        /// Which one.
        index: usize,
        /// Its code.
        code: u16,
    },
    /// A jump leaves the program.
    #[error("the filter program cannot be run: instruction {0} jumps out of it")]
    Jump(usize),
    /// The last instruction does not return.
    #[error("the filter program cannot be run: it does not end with a return")]
    NoReturn,
}

/// An instruction, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Load(Size, Place),
    LoadX(Place),
    /// The accumulator to a cell.
    Store(usize),
    StoreX(usize),
    Compute(Operation, Operand),
    Negate,
    /// Skips so many steps.
    Jump(usize),
    Branch(Condition, Operand, usize, usize),
    Return(Operand),
    Tax,
    Txa,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Word,
    Half,
    Byte,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Constant(u32),
    Absolute(u32),
    /// From where the index register says.
    Indexed(u32),
    Cell(usize),
    PacketLen,
    /// Four times the lower half of this byte: the length of an IPv4 header.
    HeaderLen(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    Constant(u32),
    X,
    /// The accumulator; in a return alone.
    Accumulator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Or,
    And,
    ShiftLeft,
    ShiftRight,
    Modulo,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

impl Program {
    /// Checks a program.
    ///
    /// # Errors
    /// [`ProgramError`] when it could not be run to its end.
    pub fn new(source: Vec<Instruction>) -> Result<Self, ProgramError> {
        let len = source.len();
        if len == 0 || len > INSTRUCTIONS_MAX {
            return Err(ProgramError::Len(len));
        }
        let mut steps = Vec::with_capacity(len);
        for (index, &instruction) in source.iter().enumerate() {
            let code = instruction.0;
            let step = decode(instruction).ok_or(ProgramError::Unknown { index, code })?;
            let behind = len - index - 1;
            let is_within = match step {
                Step::Jump(skip) => skip < behind,
                Step::Branch(_, _, yes, no) => yes.max(no) < behind,
                _ => true,
            };
            if !is_within {
                return Err(ProgramError::Jump(index));
            }
            steps.push(step);
        }
        match steps.last() {
            Some(Step::Return(_)) => Ok(Self { source, steps }),
            _ => Err(ProgramError::NoReturn),
        }
    }

    /// What the program says of a packet: 0 is "no".
    pub fn run(&self, packet: &[u8]) -> u32 {
        let mut machine = Machine {
            packet,
            accumulator: 0,
            x: 0,
            cells: [0; CELLS],
        };
        let mut steps = self.steps.iter();
        while let Some(step) = steps.next() {
            let skip = match *step {
                Step::Return(operand) => return machine.value(operand),
                Step::Jump(skip) => skip,
                Step::Branch(condition, operand, yes, no) => {
                    if machine.holds(condition, operand) {
                        yes
                    } else {
                        no
                    }
                }
                ref other => match machine.do_step(other) {
                    Some(()) => 0,
                    None => return 0,
                },
            };
            if skip > 0 {
                steps.nth(skip - 1);
            }
        }
        0
    }
}

impl TryFrom<Vec<Instruction>> for Program {
    type Error = ProgramError;

    fn try_from(source: Vec<Instruction>) -> Result<Self, ProgramError> {
        Self::new(source)
    }
}

impl From<Program> for Vec<Instruction> {
    fn from(program: Program) -> Self {
        program.source
    }
}

/// A run of a program.
struct Machine<'p> {
    packet: &'p [u8],
    accumulator: u32,
    x: u32,
    cells: [u32; CELLS],
}

impl Machine<'_> {
    /// `None` ends the run.
    fn do_step(&mut self, step: &Step) -> Option<()> {
        match *step {
            Step::Load(size, place) => self.accumulator = self.load(size, place)?,
            Step::LoadX(place) => self.x = self.load(Size::Word, place)?,
            Step::Store(cell) => *self.cells.get_mut(cell)? = self.accumulator,
            Step::StoreX(cell) => *self.cells.get_mut(cell)? = self.x,
            Step::Compute(operation, operand) => {
                let operand = self.value(operand);
                self.accumulator = compute(operation, self.accumulator, operand)?;
            }
            Step::Negate => self.accumulator = self.accumulator.wrapping_neg(),
            Step::Tax => self.x = self.accumulator,
            Step::Txa => self.accumulator = self.x,
            Step::Jump(_) | Step::Branch(..) | Step::Return(_) => {}
        }
        Some(())
    }

    fn load(&self, size: Size, place: Place) -> Option<u32> {
        match place {
            Place::Constant(value) => Some(value),
            Place::Absolute(offset) => self.read(size, offset),
            Place::Indexed(offset) => self.read(size, self.x.checked_add(offset)?),
            Place::Cell(cell) => self.cells.get(cell).copied(),
            Place::PacketLen => u32::try_from(self.packet.len()).ok(),
            Place::HeaderLen(offset) => Some((self.read(Size::Byte, offset)? & 0x0f) << 2),
        }
    }

    fn read(&self, size: Size, offset: u32) -> Option<u32> {
        let bytes = self.packet.get(usize::try_from(offset).ok()?..)?;
        match size {
            Size::Word => bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)),
            Size::Half => bytes
                .first_chunk()
                .map(|bytes| u16::from_be_bytes(*bytes).into()),
            Size::Byte => bytes.first().map(|byte| u32::from(*byte)),
        }
    }

    const fn value(&self, operand: Operand) -> u32 {
        match operand {
            Operand::Constant(value) => value,
            Operand::X => self.x,
            Operand::Accumulator => self.accumulator,
        }
    }

    const fn holds(&self, condition: Condition, operand: Operand) -> bool {
        let (left, right) = (self.accumulator, self.value(operand));
        match condition {
            Condition::Equal => left == right,
            Condition::Greater => left > right,
            Condition::GreaterOrEqual => left >= right,
            Condition::AnyBit => left & right != 0,
        }
    }
}

fn compute(operation: Operation, left: u32, right: u32) -> Option<u32> {
    Some(match operation {
        Operation::Add => left.wrapping_add(right),
        Operation::Subtract => left.wrapping_sub(right),
        Operation::Multiply => left.wrapping_mul(right),
        Operation::Divide => left.checked_div(right)?,
        Operation::Modulo => left.checked_rem(right)?,
        Operation::Or => left | right,
        Operation::And => left & right,
        Operation::Xor => left ^ right,
        Operation::ShiftLeft => left.checked_shl(right).unwrap_or(0),
        Operation::ShiftRight => left.checked_shr(right).unwrap_or(0),
    })
}

/// `None` when there is no such instruction. Codes are sums of a class, a size
/// or operation, and a mode or source, as in `pcap/bpf.h`.
fn decode(Instruction(code, yes, no, k): Instruction) -> Option<Step> {
    let cell = || usize::try_from(k).ok().filter(|cell| *cell < CELLS);
    let operand = match code & 0x08 {
        0 => Operand::Constant(k),
        _ => Operand::X,
    };
    Some(match (code & 0x07, code) {
        (0x00, _) => decode_load(code, k)?,
        (0x01, 0x01) => Step::LoadX(Place::Constant(k)),
        (0x01, 0x61) => Step::LoadX(Place::Cell(cell()?)),
        (0x01, 0x81) => Step::LoadX(Place::PacketLen),
        (0x01, 0xb1) => Step::LoadX(Place::HeaderLen(k)),
        (0x02, 0x02) => Step::Store(cell()?),
        (0x03, 0x03) => Step::StoreX(cell()?),
        (0x04, 0x84) => Step::Negate,
        (0x04, 0x00..=0xff) => Step::Compute(decode_operation(code, operand)?, operand),
        (0x05, 0x05) => Step::Jump(usize::try_from(k).ok()?),
        (0x05, 0x00..=0xff) => {
            let condition = match code & 0xf0 {
                0x10 => Condition::Equal,
                0x20 => Condition::Greater,
                0x30 => Condition::GreaterOrEqual,
                0x40 => Condition::AnyBit,
                _ => return None,
            };
            Step::Branch(condition, operand, yes.into(), no.into())
        }
        (0x06, 0x06) => Step::Return(Operand::Constant(k)),
        (0x06, 0x16) => Step::Return(Operand::Accumulator),
        (0x07, 0x07) => Step::Tax,
        (0x07, 0x87) => Step::Txa,
        _ => return None,
    })
}

fn decode_load(code: u16, k: u32) -> Option<Step> {
    let size = match code & 0x18 {
        0x00 => Size::Word,
        0x08 => Size::Half,
        0x10 => Size::Byte,
        _ => return None,
    };
    let place = match (code & !0x18, size) {
        (0x00, Size::Word) => Place::Constant(k),
        (0x20, _) => Place::Absolute(k),
        (0x40, _) => Place::Indexed(k),
        (0x60, Size::Word) => Place::Cell(usize::try_from(k).ok().filter(|cell| *cell < CELLS)?),
        (0x80, Size::Word) => Place::PacketLen,
        _ => return None,
    };
    Some(Step::Load(size, place))
}

fn decode_operation(code: u16, operand: Operand) -> Option<Operation> {
    Some(match code & 0xf0 {
        0x00 => Operation::Add,
        0x10 => Operation::Subtract,
        0x20 => Operation::Multiply,
        0x30 | 0x90 if operand == Operand::Constant(0) => return None,
        0x30 => Operation::Divide,
        0x40 => Operation::Or,
        0x50 => Operation::And,
        0x60 => Operation::ShiftLeft,
        0x70 => Operation::ShiftRight,
        0x90 => Operation::Modulo,
        0xa0 => Operation::Xor,
        _ => return None,
    })
}

/// Cells of the scratch memory (`BPF_MEMWORDS`).
const CELLS: usize = 16;

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
