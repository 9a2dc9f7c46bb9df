"""
What C{twistd} reads to learn that C{twistd hostline} exists; imports nothing of ours, so listing plugins stays cheap.
"""

from twisted.application.service import ServiceMaker

hostline = ServiceMaker("hostline", "hostline.server.tap", "The daemon of one host.", "hostline")
