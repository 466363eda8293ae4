//! Numbers of `linux/netfilter/nf_tables.h` and `nfnetlink.h`.

pub const SUBSYS: u16 = 10;
pub const BATCH_BEGIN: u16 = 0x10;
pub const BATCH_END: u16 = 0x11;

pub const NEWTABLE: u16 = 0;
pub const GETTABLE: u16 = 1;
pub const DELTABLE: u16 = 2;
pub const NEWCHAIN: u16 = 3;
pub const DELCHAIN: u16 = 5;
pub const NEWRULE: u16 = 6;
pub const DELRULE: u16 = 8;
pub const NEWSET: u16 = 9;
pub const DELSET: u16 = 11;
pub const NEWSETELEM: u16 = 12;
pub const GETSETELEM: u16 = 13;
pub const DELSETELEM: u16 = 14;

pub const TABLE_NAME: u16 = 1;
pub const CHAIN_TABLE: u16 = 1;
pub const CHAIN_NAME: u16 = 3;
pub const CHAIN_HOOK: u16 = 4;
pub const CHAIN_POLICY: u16 = 5;
pub const CHAIN_TYPE: u16 = 7;
pub const HOOK_NUM: u16 = 1;
pub const HOOK_PRIORITY: u16 = 2;
pub const RULE_TABLE: u16 = 1;
pub const RULE_CHAIN: u16 = 2;
pub const RULE_EXPRESSIONS: u16 = 4;

pub const SET_TABLE: u16 = 1;
pub const SET_NAME: u16 = 2;
pub const SET_FLAGS: u16 = 3;
pub const SET_KEY_TYPE: u16 = 4;
pub const SET_KEY_LEN: u16 = 5;
pub const SET_DATA_TYPE: u16 = 6;
pub const SET_DATA_LEN: u16 = 7;
pub const SET_DESC: u16 = 9;
pub const SET_ID: u16 = 10;
pub const SET_DESC_SIZE: u16 = 1;
pub const SET_DESC_CONCAT: u16 = 2;
pub const SET_FIELD_LEN: u16 = 1;
pub const SET_F_INTERVAL: u32 = 4;
pub const SET_F_MAP: u32 = 8;
pub const SET_F_TIMEOUT: u32 = 0x10;
pub const SET_F_EVAL: u32 = 0x20;
pub const SET_F_CONCAT: u32 = 0x80;

pub const ELEM_LIST_TABLE: u16 = 1;
pub const ELEM_LIST_SET: u16 = 2;
pub const ELEM_LIST_ELEMENTS: u16 = 3;
pub const LIST_ELEM: u16 = 1;
pub const ELEM_KEY: u16 = 1;
pub const ELEM_DATA: u16 = 2;
pub const ELEM_FLAGS: u16 = 3;
pub const ELEM_KEY_END: u16 = 10;
pub const ELEM_F_INTERVAL_END: u32 = 1;

pub const DATA_VALUE: u16 = 1;
pub const DATA_VERDICT: u16 = 2;
pub const VERDICT_CODE: u16 = 1;
pub const VERDICT_CHAIN: u16 = 2;
pub const TYPE_VERDICT: u32 = 0xffff_ff00;
pub const JUMP: i32 = -3;
pub const GOTO: i32 = -4;
pub const RETURN: i32 = -5;
pub const NF_DROP: i32 = 0;
pub const NF_ACCEPT: i32 = 1;

pub const EXPR_NAME: u16 = 1;
pub const EXPR_DATA: u16 = 2;

pub const REG_VERDICT: u32 = 0;
/// The first of sixteen registers of four bytes.
pub const REG32: u32 = 8;

pub const META_MARK: u32 = 3;
pub const META_IIFNAME: u32 = 6;
pub const META_OIFNAME: u32 = 7;
pub const META_NFPROTO: u32 = 15;
pub const META_L4PROTO: u32 = 16;
pub const CT_STATE: u32 = 0;
pub const CT_STATUS: u32 = 2;
pub const CT_STATE_NEW: u32 = 8;
pub const CT_STATUS_DNAT: u32 = 0x20;
pub const PAYLOAD_NETWORK: u32 = 1;
pub const PAYLOAD_TRANSPORT: u32 = 2;
pub const CMP_EQ: u32 = 0;
pub const CMP_NEQ: u32 = 1;
pub const LOOKUP_F_INV: u32 = 1;
pub const NUMGEN_RANDOM: u32 = 1;
pub const DYNSET_UPDATE: u32 = 1;
pub const NAT_DNAT: u32 = 1;
pub const NAT_RANDOM_FULLY: u32 = 0x10;
pub const REJECT_ICMP: u32 = 0;
pub const REJECT_TCP_RST: u32 = 1;
pub const REJECT_ICMPX: u32 = 2;
pub const ICMP_PORT_UNREACHABLE: u8 = 3;
pub const ICMPV6_PORT_UNREACHABLE: u8 = 4;
pub const REJECT_ICMPX_PORT: u8 = 1;
pub const FIB_RESULT_ADDRTYPE: u32 = 3;
pub const FIB_SADDR: u32 = 1;
pub const FIB_DADDR: u32 = 2;
pub const RTN_LOCAL: u32 = 2;
