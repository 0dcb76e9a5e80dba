"""A Flower app as its tutorials have it: torch in the ClientApp, FedAvg, a train and an evaluate phase a round."""
