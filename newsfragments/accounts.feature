Slivers of kind `account` are accounts of the host with keys, a home and a login shell that puts whoever logs in within the sliver's limits (docs/accounts.md).
