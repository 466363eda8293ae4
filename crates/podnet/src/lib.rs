//! Pod addresses and links: bridge, veth, address allocation.
