Slivers of kind process run under a keeper of their own: they and their exit statuses outlive the daemon, and under root each has its own uid, /home, /tmp and control groups.
