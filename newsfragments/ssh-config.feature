'hostline ssh-config PROJECT/EXPERIMENT' prints what ssh needs to reach nodes by name, and 'hostline logs PROJECT/EXPERIMENT --tar FILE' fetches the logs of all nodes.
