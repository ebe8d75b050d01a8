//! HTTP/1.1 framing (RFC 9112), both sides, bounded and incremental.
