`set_user` gives a user who is there already another uid, names of certificates, keys, or the rights of an operator.
