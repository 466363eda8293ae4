//! Which names are good: the checks of [`machinery::names`], under the names that strategies use.
//!
//! Every function gives the messages; none means good.

pub use machinery::names::{
    c_identifier, config_map_key, dns1035_label, dns1123_label, dns1123_subdomain,
    dns1123_subdomain_with_underscore, http_header_name as http_header, in_range,
    inclusive_range as range_error, ip::interface_address, is_dns_label_name as label_name,
    is_dns_subdomain_name as subdomain_name, is_dns1035_label_name as dns1035_name,
    is_path_segment_name as path_segment, label_value, percent, port_name, port_number, qualified_name,
    regex_message as regex_error, relaxed_env_var_name as env_var_name, user_id as unix_id,
    wildcard_dns1123_subdomain,
};

/// Checks a name; the flag says that it is a `generateName` prefix.
pub type NameRule = fn(&str, bool) -> Vec<String>;

/// `10%`.
pub(crate) fn is_percent(value: &str) -> bool {
    percent(value).is_empty()
}
