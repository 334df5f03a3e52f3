"""The trained parts: pixel decoder, injectors, transformer decoder, and OVSeg's MaskFormer."""
