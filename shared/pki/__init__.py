"""Who is who on the network: keys, certificates, signing requests and kits. Needs `cryptography`, and no server."""
