//! Field offsets from the kernel's own type information (BTF): a pure parser and the search for a member.
//!
//! Format: Documentation/bpf/btf.rst of the kernel. Only what member offsets need is read.

use std::collections::HashMap;

use synfin_ebpf::abi::Offsets;
use synfin_ebpf::abi::offsets::ABSENT;

/// Where the running kernel keeps its type information.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    #[error("it does not start with the BTF magic number")]
    Magic,
    #[error("it ends in the middle of a type (byte {0})")]
    Short(usize),
    #[error("type {id} is of the unknown kind {kind}")]
    Kind { id: u32, kind: u32 },
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OffsetError {
    #[error("the kernel's type information has no struct {0}")]
    NoType(String),
    #[error("the kernel's type information has no field {kernel_type}.{path}")]
    NoField { kernel_type: String, path: String },
}

/// Kinds of types (enum in include/uapi/linux/btf.h).
mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const FLOAT: u32 = 16;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

const MAGIC: u16 = 0xeb9f;

/// The parsed types: for each id where its description starts, and the structs and functions by name.
pub struct Types<'a> {
    data: &'a [u8],
    strings: usize,
    /// Byte offset of type `id` at `[id - 1]` (0 is void).
    starts: Vec<usize>,
    structs: HashMap<&'a [u8], u32>,
    functions: HashMap<&'a [u8], u32>,
}

impl<'a> Types<'a> {
    /// Parses a whole BTF blob, as read from `/sys/kernel/btf/vmlinux`.
    pub fn parse(data: &'a [u8]) -> Result<Self, BtfError> {
        if data.get(..2) != Some(&MAGIC.to_le_bytes()) {
            return Err(BtfError::Magic);
        }
        let header_len = word(data, 4)? as usize;
        let types_start = header_len + word(data, 8)? as usize;
        let types_end = types_start + word(data, 12)? as usize;
        let strings = header_len + word(data, 16)? as usize;
        let mut types = Self { data, strings, starts: Vec::new(), structs: HashMap::new(), functions: HashMap::new() };
        let mut at = types_start;
        while at < types_end {
            let info = word(data, at + 4)?;
            let id = types.starts.len() as u32 + 1;
            let size = extra_size(id, info)?;
            match kind_of(info) {
                kind::STRUCT => types.structs.insert(types.name(at)?, id),
                kind::FUNC => types.functions.insert(types.name(at)?, id),
                _ => None,
            };
            types.starts.push(at);
            at += 12 + size;
        }
        Ok(types)
    }

    /// Whether the kernel has a function of this name that programs can be attached to.
    pub fn has_function(&self, name: &str) -> bool {
        self.functions.contains_key(name.as_bytes())
    }

    /// Offset in bits of the member at the dotted `path` of a struct; anonymous members are walked through.
    pub fn bit_offset(&self, kernel_type: &str, path: &str) -> Result<u32, OffsetError> {
        let no_field = || OffsetError::NoField { kernel_type: kernel_type.into(), path: path.into() };
        let mut id =
            *self.structs.get(kernel_type.as_bytes()).ok_or_else(|| OffsetError::NoType(kernel_type.into()))?;
        let mut bits = 0;
        for name in path.split('.') {
            let (offset, member) = self.member(id, name.as_bytes()).ok_or_else(no_field)?;
            bits += offset;
            id = self.resolve(member).ok_or_else(no_field)?;
        }
        Ok(bits)
    }

    /// Offset in bits and type of a direct member, or of one inside an anonymous member.
    fn member(&self, id: u32, name: &[u8]) -> Option<(u32, u32)> {
        let start = *self.starts.get(id as usize - 1)?;
        let info = word(self.data, start + 4).ok()?;
        if !matches!(kind_of(info), kind::STRUCT | kind::UNION) {
            return None;
        }
        // With the kind flag set, the upper byte of an offset is the width of a bit field.
        let bit_fields = info >> 31 != 0;
        (0..info & 0xffff).find_map(|index| {
            let at = start + 12 + index as usize * 12;
            let member_name = self.string(word(self.data, at).ok()?)?;
            let member_type = word(self.data, at + 4).ok()?;
            let offset = word(self.data, at + 8).ok()?;
            let offset = if bit_fields { offset & 0x00ff_ffff } else { offset };
            if member_name == name {
                Some((offset, member_type))
            } else if member_name.is_empty() {
                let (inner, found) = self.member(self.resolve(member_type)?, name)?;
                Some((offset + inner, found))
            } else {
                None
            }
        })
    }

    /// Through typedefs and qualifiers to the type itself.
    fn resolve(&self, mut id: u32) -> Option<u32> {
        // A chain in a damaged file might be a circle.
        for _ in 0..64 {
            let start = *self.starts.get((id as usize).checked_sub(1)?)?;
            match kind_of(word(self.data, start + 4).ok()?) {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = word(self.data, start + 8).ok()?;
                }
                _ => return Some(id),
            }
        }
        None
    }

    fn name(&self, at: usize) -> Result<&'a [u8], BtfError> {
        self.string(word(self.data, at)?).ok_or(BtfError::Short(at))
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        let rest = self.data.get(self.strings + offset as usize..)?;
        Some(&rest[..rest.iter().position(|&byte| byte == 0)?])
    }
}

fn word(data: &[u8], at: usize) -> Result<u32, BtfError> {
    let bytes = data.get(at..at + 4).ok_or(BtfError::Short(at))?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// Bytes that follow the twelve that every type has.
fn extra_size(id: u32, info: u32) -> Result<usize, BtfError> {
    let members = (info & 0xffff) as usize;
    Ok(match kind_of(info) {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::PTR | kind::FWD | kind::TYPEDEF | kind::VOLATILE | kind::CONST => 0,
        kind::RESTRICT | kind::FUNC | kind::FLOAT | kind::TYPE_TAG => 0,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * members,
        kind::ENUM | kind::FUNC_PROTO => 8 * members,
        kind => return Err(BtfError::Kind { id, kind }),
    })
}

/// Fields that some kernels lack; everything that depends on one does without.
const OPTIONAL: [&str; 7] =
    ["sk_cgrp_data.cgroup", "kn", "syn_data", "syn_fastopen", "ns.count", "ns.__ns_ref", "count"];

/// Fills in the offset of every field that the probes read: bytes, of bit fields bits.
pub fn resolve_offsets(types: &Types<'_>) -> Result<Offsets, OffsetError> {
    let mut offsets = Offsets::NONE;
    for (kernel_type, path, place) in offsets.fields() {
        let is_bit_field = matches!(path, "syn_data" | "syn_fastopen");
        *place = match types.bit_offset(kernel_type, path) {
            Ok(bits) if is_bit_field => bits,
            Ok(bits) => bits / 8,
            Err(_) if OPTIONAL.contains(&path) => ABSENT,
            Err(error) => return Err(error),
        };
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_btf() {
        let check = |data: &[u8], error| assert_eq!(Types::parse(data).err(), Some(error));
        check(b"", BtfError::Magic);
        check(b"\x7fELF", BtfError::Magic);
        check(&[0x9f, 0xeb, 1, 0], BtfError::Short(4));
    }

    #[test]
    fn a_cut_off_kernel_file_is_an_error_not_a_panic() {
        let whole = std::fs::read(KERNEL_BTF).expect("this kernel has BTF");
        for len in [24, 25, 1000, whole.len() / 2] {
            assert!(Types::parse(&whole[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn the_running_kernel_has_every_field() {
        let data = std::fs::read(KERNEL_BTF).expect("this kernel has BTF");
        let types = Types::parse(&data).expect("BTF of the running kernel");
        let offsets = resolve_offsets(&types).expect("all fields");
        // These have not moved since 5.10 (offsets read from BTF of four kernels).
        assert_eq!((offsets.skc_daddr, offsets.skc_rcv_saddr, offsets.skc_state), (0, 4, 18));
        assert_eq!((offsets.tw_substate, offsets.num_retrans), (140, 146));
        assert!(types.has_function("tcp_v4_connect") && !types.has_function("no_such_function"));
    }

    #[test]
    fn a_missing_field_is_named() {
        let data = std::fs::read(KERNEL_BTF).expect("this kernel has BTF");
        let types = Types::parse(&data).expect("BTF of the running kernel");
        let error = types.bit_offset("tcp_sock", "srtt_parsecs").unwrap_err();
        assert_eq!(error.to_string(), "the kernel's type information has no field tcp_sock.srtt_parsecs");
        let error = types.bit_offset("tcp_socket", "x").unwrap_err();
        assert_eq!(error.to_string(), "the kernel's type information has no struct tcp_socket");
    }
}
