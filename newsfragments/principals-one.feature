Limits hold for a principal over all its connections, whichever way they come: by its uid, by a certificate or through ssh; who is removed is cut off at once.
