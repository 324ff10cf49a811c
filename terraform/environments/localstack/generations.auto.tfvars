# To rotate the KEK: add the next generation as active and set the current one to retired, with still_wraps = true until
# every writer uses the new one. Then `make apply` and `make rewrap`.
generations = {
  g1 = { state = "active" }
}
