"""Policies go out: as ONNX, and as a bundle of arrays that NumPy alone runs, raw observation in, action out."""
