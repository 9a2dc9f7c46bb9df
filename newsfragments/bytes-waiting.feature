The lines that wait for answers are bounded in bytes too (limits.bytes_waiting, limits.principal_bytes_waiting).
