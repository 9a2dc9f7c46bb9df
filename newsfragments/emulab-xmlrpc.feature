Emulab's XML-RPC (`experiment.*`, `node.*`) is answered by TLS at `emulab.listen` and on the socket `RUN/emulab.sock`, by the daemon's own commands in the caller's name.
