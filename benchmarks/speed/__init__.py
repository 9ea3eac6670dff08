"""What does the network cost beside its own CLIP, in time and memory?"""
