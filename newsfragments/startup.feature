After a start of the host every sliver that should be up is started, once; `--startup` asks for it, `--stagger SECONDS` spaces the starts.
