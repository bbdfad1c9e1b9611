"""One generation seen from its caller: whom to ask, whom to call, when to try again. Pure."""
