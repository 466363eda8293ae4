//! HTTP front, authentication, authorisation, admission, generic registry, watch cache, discovery, OpenAPI.
