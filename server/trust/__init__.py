"""
Who is believed through the network: certificates, the authority that signs them, and what it has taken back.
"""
