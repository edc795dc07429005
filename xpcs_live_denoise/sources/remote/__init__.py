"""Documents from and to other processes over 0MQ, never as a pickle."""
