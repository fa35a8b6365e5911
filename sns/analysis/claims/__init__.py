"""The paper's claims and what the records say of each."""
