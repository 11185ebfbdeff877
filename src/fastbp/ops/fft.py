"""Floor 0: Fourier transforms of real and half-complex signals (torch.fft): external rows, NumPy's FFT."""
