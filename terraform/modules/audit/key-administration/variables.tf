variable "administrator_arns" {
  description = "Principals that may change the policies of the audit keys: the role that runs Terraform."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.administrator_arns) > 0 && alltrue([for arn in var.administrator_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/.+$", arn)) && !strcontains(arn, "*")])
    error_message = "Name at least one administrator, a role or a user, by its exact ARN: the role that runs Terraform."
  }
}
