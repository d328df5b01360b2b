"""What there is: a gateway's Deployment, pods, autoscalers and leases, as records to decide by."""
