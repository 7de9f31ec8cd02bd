"""The idea of the paper: a block of think tokens after audio and question, consumed in the one prefill (§3.2)."""
