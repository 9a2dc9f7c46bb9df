Experiments have links and LANs with rate, delay and loss, held by the kernel or by VDE's wirefilter and changed live by `delay_config`; `doctor` says what a host lacks for them.
