"""Every policy against every other over drawn regimes: what is drawn, how it is played, who is beaten, and by how much."""
