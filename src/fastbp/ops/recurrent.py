"""Floor 0: recurrent sequences: RNN, LSTM, GRU."""
