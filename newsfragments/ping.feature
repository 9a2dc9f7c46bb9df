Containers have raw sockets of IP, so that any ping or traceroute works in them; whole frames and false addresses are still refused.
